# SPDX-License-Identifier: LGPL-2.1-or-later
# Completion of uservm(1) for fish. Commands and options come from its own help, VMs and forwards
# from the service.

# The words before the cursor that are no options, without "uservm".
function __uservm_words
    set -l words (commandline -opc)
    string match -v -- '-*' $words[2..-1]
end

# The command, with its group: "forward add".
function __uservm_command
    set -l words (__uservm_words)
    if contains -- "$words[1]" forward disk
        echo $words[1..2]
    else
        echo $words[1]
    end
end

# Whether the command is one of the arguments, and has exactly or at least so many words behind it.
function __uservm_at
    set -l words (__uservm_words)
    set -l command (__uservm_command)
    set -l more (math (count $words) - (count (string split ' ' -- "$command")))
    contains -- "$command" $argv[3..-1]; and test $more $argv[1] $argv[2]
end

function __uservm_vms
    uservm list --quiet 2>/dev/null
end

function __uservm_forwards
    set -l words (__uservm_words)
    uservm forward list --quiet -- $words[3] 2>/dev/null
end

function __uservm_disks
    set -l words (__uservm_words)
    uservm disk list -- $words[3] 2>/dev/null | string match -v -r '^DISK ' | string split -f 1 ' '
end

# Commands with what they do: the first word of each line of the help, each once.
function __uservm_commands
    uservm --help | string match -r '^  [a-z].*' |
        string replace -r '^  ([a-z]+)(?: \S+)* {2,}(.*)$' '$1\t$2' | sort -u -k1,1
end

# The options of a command, as complete(1) takes them.
function __uservm_options
    uservm help (string split ' ' -- (__uservm_command)) 2>/dev/null |
        string match -r '^ +(?:-., )?--[a-z-]+.*' |
        string replace -r '^ +(?:-., )?(--[a-z-]+)\S* *(.*)$' '$1\t$2'
end

complete -c uservm -f
complete -c uservm -n 'test (count (__uservm_words)) -eq 0' -a '(__uservm_commands)'
complete -c uservm -n 'test (count (__uservm_words)) -eq 1; and test (__uservm_words)[1] = forward' \
    -a 'add remove list'
complete -c uservm -n 'test (count (__uservm_words)) -eq 1; and test (__uservm_words)[1] = disk' \
    -a 'list resize'
complete -c uservm -n 'test (count (__uservm_words)) -gt 0; and string match -q -- "-*" (commandline -ct)' \
    -a '(__uservm_options)'

complete -c uservm -n '__uservm_at -eq 0 show rename set wait ssh "forward add" "forward list" "forward remove" "disk list" "disk resize"' \
    -a '(__uservm_vms)'
complete -c uservm -n '__uservm_at -ge 0 start shutdown poweroff reboot reset pause resume save delete monitor' \
    -a '(__uservm_vms)'
complete -c uservm -n '__uservm_at -eq 0 autostart' -a 'on off'
complete -c uservm -n '__uservm_at -ge 1 autostart' -a '(__uservm_vms)'
complete -c uservm -n '__uservm_at -ge 1 "forward remove"' -a '(__uservm_forwards)'
complete -c uservm -n '__uservm_at -eq 1 "disk resize"' -a '(__uservm_disks)'
complete -c uservm -n '__uservm_at -eq 0 help' -a '(__uservm_commands)'
complete -c uservm -n '__uservm_at -ge 0 create' -l image -s i -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l disk -s d -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l ssh-key -s k -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l password-file -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l user-data -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l user -s u -x -a '(__fish_complete_users)'
complete -c uservm -n '__uservm_at -ge 0 create' -l guest-setup -x -a 'cloud-init credentials'
complete -c uservm -n '__uservm_at -ge 0 create' -l cdrom -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l kernel -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l initrd -r -F
complete -c uservm -n '__uservm_at -ge 0 create' -l accelerator -x -a 'auto kvm tcg'
complete -c uservm -n '__uservm_at -ge 0 create' -l firmware -x -a 'bios uefi'
complete -c uservm -n '__uservm_at -ge 0 wait' -l state -s s -x \
    -a 'shutoff starting running paused saved stopping crashed'
complete -c uservm -n '__uservm_at -ge 0 ssh' -l login -s l -x -a '(__fish_complete_users)'
