# edgetop in fish. Once:  edgetop completion fish > ~/.config/fish/completions/edgetop.fish
function __edgetop_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in ($before[1] __complete fish $before[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path "$current"
            case ':folders'
                __fish_complete_directories "$current"
            case '*'
                echo $line
        end
    end
end
complete -c edgetop -f -a '(__edgetop_complete)'
