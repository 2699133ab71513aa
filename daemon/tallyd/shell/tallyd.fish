# Completes the words of tallyd. Made from its command line's table by `make shell` with shtab.
# Printed by `tallyd completion fish`; put it where fish looks:
#   tallyd completion fish > ~/.config/fish/completions/tallyd.fish

function _tallyd_products
  set -l home $HOME/.config/tallyd
  if string match -q '/*' -- "$XDG_CONFIG_HOME"
    set home $XDG_CONFIG_HOME/tallyd
  end
  if string match -q '/*' -- "$TALLYD_HOME"
    set home $TALLYD_HOME/config
  end
  for file in $home/contracts/*.toml
    string match -rq '/(?<name>[a-z0-9][a-z0-9-]{0,31})\.toml\z' -- $file
    and printf '%s\tproduct\n' $name
  end
end

function _tallyd_contract_file
  _tallyd_products
  __fish_complete_path (commandline -ct)
end

# Parse current commandline:
# - _shtab_tallyd_cmdpath=(sub)command path seen so far
# - _shtab_tallyd_npos=number of positional arguments given after it
# - options are skipped based on _shtab_tallyd_opts_with_value & _shtab_tallyd_commands lists
function _shtab_tallyd_scan
  set -g _shtab_tallyd_cmdpath ''
  set -g _shtab_tallyd_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_tallyd_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_tallyd_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_tallyd_cmdpath"
            set candidate "$_shtab_tallyd_cmdpath $t"
          end
          if contains -- $candidate $_shtab_tallyd_commands
            set -g _shtab_tallyd_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_tallyd_npos (math $_shtab_tallyd_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_tallyd_using
  _shtab_tallyd_scan
  test "$_shtab_tallyd_cmdpath" = "$argv"
end

set -g _shtab_tallyd_commands run status doctor flush show preview off on reset choose contract 'contract check' 'contract docs' 'contract diff' 'contract schema' 'contract build' 'contract add' 'contract list' service 'service install' 'service uninstall' 'service start' 'service stop' 'service restart' 'service status' 'service logs' 'service print' demo completion
set -g _shtab_tallyd_opts_with_value --lines --log-file --mode --python --user --watch -n -o

complete -c tallyd -e
complete -c tallyd -f

complete -c tallyd -n _shtab_tallyd_using -s h -l help -d 'show this help message and exit'
complete -c tallyd -n _shtab_tallyd_using -l version -d 'show program'"'"'s version number and exit'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a run -d 'Run the daemon in the foreground until a signal.'
complete -c tallyd -n '_shtab_tallyd_using run' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using run' -l on-demand -d 'log to a file, outlive this shell, and leave after 10 idle minutes'
complete -c tallyd -n '_shtab_tallyd_using run' -l agent -d 'under launchd: end with 0 where starting again would not help'
complete -c tallyd -n '_shtab_tallyd_using run' -l log-file -xka "(__fish_complete_path (commandline -ct))" -d 'log there instead of to stderr, and keep it under 256 KiB'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a status -d 'Say whether it is well, what it knows, where it went, how to end it.'
complete -c tallyd -n '_shtab_tallyd_using status' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using status' -l json -d 'print JSON, every key as docs/status.md says'
complete -c tallyd -n '_shtab_tallyd_using status' -l watch -x -d 'again and again, every 2 s or so many, until Ctrl-C'
complete -c tallyd -n '_shtab_tallyd_using status; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'all about this one'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a doctor -d 'Look at everything around the daemon, and say what mends what is wrong.'
complete -c tallyd -n '_shtab_tallyd_using doctor' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using doctor' -l online -d 'ask the gateways too; without it no socket is opened'
complete -c tallyd -n '_shtab_tallyd_using doctor' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a flush -d 'Merge what was dropped and send what is due, now.'
complete -c tallyd -n '_shtab_tallyd_using flush' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using flush' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a show -d 'Print the buckets that are not sealed yet.'
complete -c tallyd -n '_shtab_tallyd_using show' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using show' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using show; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'a registered product'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a preview -d 'Print the exact body that would be sent next.'
complete -c tallyd -n '_shtab_tallyd_using preview' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using preview' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using preview; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'a registered product'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a off -d 'Stop counting and sending, and delete what was not sent and the id.'
complete -c tallyd -n '_shtab_tallyd_using off' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using off' -l all -d 'every product, those to come too'
complete -c tallyd -n '_shtab_tallyd_using off; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'a registered product'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a on -d 'Let a product count and send, under a new id.'
complete -c tallyd -n '_shtab_tallyd_using on' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using on' -l all -d 'every registered product'
complete -c tallyd -n '_shtab_tallyd_using on' -l mode -x -d 'which way of being on, where a product knows several'
complete -c tallyd -n '_shtab_tallyd_using on' -l user -x -d 'your id, for the mode that is identified'
complete -c tallyd -n '_shtab_tallyd_using on; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'a registered product'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a reset -d 'Begin anew under another id, and delete what was not sent; the choice stays.'
complete -c tallyd -n '_shtab_tallyd_using reset' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using reset; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'a registered product'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a choose -d 'Ask on the terminal what a product may do.'
complete -c tallyd -n '_shtab_tallyd_using choose' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using choose; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_products)" -d 'a registered product'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a contract -d 'work with contracts'
complete -c tallyd -n '_shtab_tallyd_using contract' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a check -d 'Find what a careful maintainer would mend in a contract.'
complete -c tallyd -n '_shtab_tallyd_using contract check' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract check' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using contract check; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_contract_file)" -d 'a contract'"'"'s file, or a registered product'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a docs -d 'Render the page about a contract that a user reads.'
complete -c tallyd -n '_shtab_tallyd_using contract docs' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract docs' -s o -xka "(__fish_complete_path (commandline -ct))" -d 'write it there'
complete -c tallyd -n '_shtab_tallyd_using contract docs' -l check -d 'write nothing; exit 1 when the file is not as it would be written'
complete -c tallyd -n '_shtab_tallyd_using contract docs; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_contract_file)" -d 'a contract'"'"'s file, or a registered product'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a diff -d 'Say what a new version collects more or less.'
complete -c tallyd -n '_shtab_tallyd_using contract diff' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract diff' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using contract diff; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_contract_file)" -d 'a contract'"'"'s file, or a registered product'
complete -c tallyd -n '_shtab_tallyd_using contract diff; and test $_shtab_tallyd_npos -eq 1' -ka "(_tallyd_contract_file)" -d 'a contract'"'"'s file, or a registered product'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a schema -d 'Export the JSON Schema of what is sent.'
complete -c tallyd -n '_shtab_tallyd_using contract schema' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract schema' -s o -xka "(__fish_complete_path (commandline -ct))" -d 'write it there'
complete -c tallyd -n '_shtab_tallyd_using contract schema' -l check -d 'write nothing; exit 1 when the file is not as it would be written'
complete -c tallyd -n '_shtab_tallyd_using contract schema; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_contract_file)" -d 'a contract'"'"'s file, or a registered product'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a build -d 'Write the constants that a host hands to the stub.'
complete -c tallyd -n '_shtab_tallyd_using contract build' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract build' -l python -xka "(__fish_complete_path (commandline -ct))" -d 'the Python module to write'
complete -c tallyd -n '_shtab_tallyd_using contract build' -l check -d 'write nothing; exit 1 when the file is not as it would be written'
complete -c tallyd -n '_shtab_tallyd_using contract build' -l off -d 'for packagers: counts nothing, and no setting overrides it'
complete -c tallyd -n '_shtab_tallyd_using contract build; and test $_shtab_tallyd_npos -eq 0' -ka "(_tallyd_contract_file)" -d 'a contract'"'"'s file, or a registered product'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a add -d 'Register a product'"'"'s contract.'
complete -c tallyd -n '_shtab_tallyd_using contract add' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract add; and test $_shtab_tallyd_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the contract, a TOML file'
complete -c tallyd -n '_shtab_tallyd_using contract; and test $_shtab_tallyd_npos -eq 0' -a list -d 'Name the registered contracts.'
complete -c tallyd -n '_shtab_tallyd_using contract list' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using contract list' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a service -d 'work with services'
complete -c tallyd -n '_shtab_tallyd_using service' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a install -d 'Run the daemon from now on, at each login, under systemd or launchd.'
complete -c tallyd -n '_shtab_tallyd_using service install' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service install' -l on-demand -d 'start it when a tool drops counts, and let it leave when it is idle'
complete -c tallyd -n '_shtab_tallyd_using service install' -l no-start -d 'install it, and start nothing now'
complete -c tallyd -n '_shtab_tallyd_using service install' -l dry-run -d 'change nothing, and say what would be done'
complete -c tallyd -n '_shtab_tallyd_using service install' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a uninstall -d 'Stop it and remove what install wrote; counts and choices stay.'
complete -c tallyd -n '_shtab_tallyd_using service uninstall' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service uninstall' -l purge -d 'remove what tallyd keeps too: counts, ids, contracts; a "no" is kept'
complete -c tallyd -n '_shtab_tallyd_using service uninstall' -l dry-run -d 'change nothing, and say what would be done'
complete -c tallyd -n '_shtab_tallyd_using service uninstall' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a start -d 'Start the installed service.'
complete -c tallyd -n '_shtab_tallyd_using service start' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service start' -l dry-run -d 'change nothing, and say what would be done'
complete -c tallyd -n '_shtab_tallyd_using service start' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a stop -d 'Stop it until the next login, and let no host start another meanwhile.'
complete -c tallyd -n '_shtab_tallyd_using service stop' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service stop' -l dry-run -d 'change nothing, and say what would be done'
complete -c tallyd -n '_shtab_tallyd_using service stop' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a restart -d 'Stop it and start it.'
complete -c tallyd -n '_shtab_tallyd_using service restart' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service restart' -l dry-run -d 'change nothing, and say what would be done'
complete -c tallyd -n '_shtab_tallyd_using service restart' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a status -d 'Say what is installed, and how it goes by its manager'"'"'s word.'
complete -c tallyd -n '_shtab_tallyd_using service status' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service status' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a logs -d 'Show the daemon'"'"'s log.'
complete -c tallyd -n '_shtab_tallyd_using service logs' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service logs' -s f -l follow -d 'go on as lines come'
complete -c tallyd -n '_shtab_tallyd_using service logs' -s n -l lines -x -d 'the last N lines (100)'
complete -c tallyd -n '_shtab_tallyd_using service; and test $_shtab_tallyd_npos -eq 0' -a print -d 'Print the service files as install would write them.'
complete -c tallyd -n '_shtab_tallyd_using service print' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using service print' -l on-demand -d 'those of the service on demand'
complete -c tallyd -n '_shtab_tallyd_using service print' -l systemd -d 'systemd'"'"'s, wherever this is'
complete -c tallyd -n '_shtab_tallyd_using service print' -l launchd -d 'launchd'"'"'s, wherever this is'
complete -c tallyd -n '_shtab_tallyd_using service print' -l json -d 'print JSON'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a demo -d 'Walk one counter from a real MCP server to a gateway'"'"'s store.'
complete -c tallyd -n '_shtab_tallyd_using demo' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using demo' -l keep -d 'keep the temporary home, and say where'
complete -c tallyd -n '_shtab_tallyd_using; and test $_shtab_tallyd_npos -eq 0' -a completion -d 'Print the file by which a shell completes commands, options and products.'
complete -c tallyd -n '_shtab_tallyd_using completion' -s h -l help -d 'show this help message and exit'
complete -c tallyd -n '_shtab_tallyd_using completion; and test $_shtab_tallyd_npos -eq 0' -ka "bash zsh fish" -d 'bash, zsh or fish'
