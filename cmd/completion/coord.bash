# Completion of coord for bash: source <(coord completion bash)
_coord() {
    local kind word typed=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [[ -z $kind ]]; then
            kind=$word
            continue
        fi
        # Within quotes readline takes a word as it is.
        [[ $typed == [\'\"]* ]] || printf -v word %q "$word"
        COMPREPLY+=("$word")
    done < <("${COMP_WORDS[0]/#\~/$HOME}" __complete --breaks="$COMP_WORDBREAKS" --line="${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    case $kind in
    open) compopt -o nospace ;;
    files) ((${#COMPREPLY[@]})) || compopt -o default ;;
    esac
}
complete -F _coord coord
