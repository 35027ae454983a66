# Completion of coord for fish: a file in ~/.config/fish/completions
function __coord_complete
    set -l words (commandline -opc)
    set -l typed (commandline -ct | string unescape)
    set -l program $words[1]
    set -e words[1]
    set -l lines ($program __complete -- $words "$typed" 2>/dev/null)
    set -l kind $lines[1]
    set -e lines[1]
    switch "$kind"
        case files
            test (count $lines) -gt 0; or __fish_complete_path "$typed"
        case open
            # fish adds no space behind a slash
            string replace -r '\t.*' / -- $lines
    end
    test (count $lines) -gt 0; and test "$kind" != open; and printf '%s\n' $lines
end
complete -c coord -f -a '(__coord_complete)'
