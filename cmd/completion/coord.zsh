#compdef coord
# Completion of coord for zsh: source <(coord completion zsh), after compinit
_coord() {
    local line kind
    local -a offered shown
    while IFS= read -r line; do
        if [[ -z $kind ]]; then
            kind=$line
            continue
        fi
        offered+=("${line%%$'\t'*}")
        [[ $line == *$'\t' ]] && shown+=("${line%$'\t'}") || shown+=("${line/$'\t'/  -- }")
    done < <("${(Q)words[1]}" __complete -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    if [[ $kind == files && $#offered -eq 0 ]]; then
        _files
    elif [[ $kind == open ]]; then
        compadd -S '' -d shown -a offered
    else
        compadd -d shown -a offered
    fi
}
if [[ $funcstack[1] == _coord ]]; then
    _coord "$@"
else
    compdef _coord coord
fi
