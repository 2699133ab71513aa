# Completes the words of tallyd. Made from its command line's table by `make shell` with shtab.
# Printed by `tallyd completion bash`; put it where bash looks:
#   tallyd completion bash > ~/.local/share/bash-completion/completions/tallyd

_shtab_tallyd_contract_subparsers=(check docs diff schema build add list)
_shtab_tallyd_service_subparsers=(install uninstall start stop restart status logs print)
_shtab_tallyd_subparsers=(run status doctor flush show preview off on reset choose contract service demo completion)

_shtab_tallyd_run_option_strings=(-h --help --on-demand --agent --log-file)
_shtab_tallyd_status_option_strings=(-h --help --json --watch)
_shtab_tallyd_doctor_option_strings=(-h --help --online --json)
_shtab_tallyd_flush_option_strings=(-h --help --json)
_shtab_tallyd_show_option_strings=(-h --help --json)
_shtab_tallyd_preview_option_strings=(-h --help --json)
_shtab_tallyd_off_option_strings=(-h --help --all)
_shtab_tallyd_on_option_strings=(-h --help --all --mode --user)
_shtab_tallyd_reset_option_strings=(-h --help)
_shtab_tallyd_choose_option_strings=(-h --help)
_shtab_tallyd_contract_check_option_strings=(-h --help --json)
_shtab_tallyd_contract_docs_option_strings=(-h --help -o --check)
_shtab_tallyd_contract_diff_option_strings=(-h --help --json)
_shtab_tallyd_contract_schema_option_strings=(-h --help -o --check)
_shtab_tallyd_contract_build_option_strings=(-h --help --python --check --off)
_shtab_tallyd_contract_add_option_strings=(-h --help)
_shtab_tallyd_contract_list_option_strings=(-h --help --json)
_shtab_tallyd_contract_option_strings=(-h --help)
_shtab_tallyd_service_install_option_strings=(-h --help --on-demand --no-start --dry-run --json)
_shtab_tallyd_service_uninstall_option_strings=(-h --help --purge --dry-run --json)
_shtab_tallyd_service_start_option_strings=(-h --help --dry-run --json)
_shtab_tallyd_service_stop_option_strings=(-h --help --dry-run --json)
_shtab_tallyd_service_restart_option_strings=(-h --help --dry-run --json)
_shtab_tallyd_service_status_option_strings=(-h --help --json)
_shtab_tallyd_service_logs_option_strings=(-h --help -f --follow -n --lines)
_shtab_tallyd_service_print_option_strings=(-h --help --on-demand --systemd --launchd --json)
_shtab_tallyd_service_option_strings=(-h --help)
_shtab_tallyd_demo_option_strings=(-h --help --keep)
_shtab_tallyd_completion_option_strings=(-h --help)
_shtab_tallyd_option_strings=(-h --help --version)

_shtab_tallyd_run___log_file_COMPGEN=_shtab_compgen_files
_shtab_tallyd_status_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_show_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_preview_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_off_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_on_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_reset_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_choose_pos_0_COMPGEN=_tallyd_products
_shtab_tallyd_contract_check_pos_0_COMPGEN=_tallyd_contract_file
_shtab_tallyd_contract_docs_pos_0_COMPGEN=_tallyd_contract_file
_shtab_tallyd_contract_docs__o_COMPGEN=_shtab_compgen_files
_shtab_tallyd_contract_diff_pos_0_COMPGEN=_tallyd_contract_file
_shtab_tallyd_contract_diff_pos_1_COMPGEN=_tallyd_contract_file
_shtab_tallyd_contract_schema_pos_0_COMPGEN=_tallyd_contract_file
_shtab_tallyd_contract_schema__o_COMPGEN=_shtab_compgen_files
_shtab_tallyd_contract_build_pos_0_COMPGEN=_tallyd_contract_file
_shtab_tallyd_contract_build___python_COMPGEN=_shtab_compgen_files
_shtab_tallyd_contract_add_pos_0_COMPGEN=_shtab_compgen_files

_shtab_tallyd_contract_pos_0_choices=(check docs diff schema build add list)
_shtab_tallyd_service_pos_0_choices=(install uninstall start stop restart status logs print)
_shtab_tallyd_completion_pos_0_choices=(bash zsh fish)
_shtab_tallyd_pos_0_choices=(run status doctor flush show preview off on reset choose contract service demo completion)

_shtab_tallyd_run__h_nargs=0
_shtab_tallyd_run___help_nargs=0
_shtab_tallyd_run___on_demand_nargs=0
_shtab_tallyd_run___agent_nargs=0
_shtab_tallyd_status__h_nargs=0
_shtab_tallyd_status___help_nargs=0
_shtab_tallyd_status___json_nargs=0
_shtab_tallyd_status___watch_nargs='?'
_shtab_tallyd_doctor__h_nargs=0
_shtab_tallyd_doctor___help_nargs=0
_shtab_tallyd_doctor___online_nargs=0
_shtab_tallyd_doctor___json_nargs=0
_shtab_tallyd_flush__h_nargs=0
_shtab_tallyd_flush___help_nargs=0
_shtab_tallyd_flush___json_nargs=0
_shtab_tallyd_show__h_nargs=0
_shtab_tallyd_show___help_nargs=0
_shtab_tallyd_show___json_nargs=0
_shtab_tallyd_preview__h_nargs=0
_shtab_tallyd_preview___help_nargs=0
_shtab_tallyd_preview___json_nargs=0
_shtab_tallyd_off__h_nargs=0
_shtab_tallyd_off___help_nargs=0
_shtab_tallyd_off___all_nargs=0
_shtab_tallyd_on__h_nargs=0
_shtab_tallyd_on___help_nargs=0
_shtab_tallyd_on___all_nargs=0
_shtab_tallyd_reset__h_nargs=0
_shtab_tallyd_reset___help_nargs=0
_shtab_tallyd_choose__h_nargs=0
_shtab_tallyd_choose___help_nargs=0
_shtab_tallyd_contract_check__h_nargs=0
_shtab_tallyd_contract_check___help_nargs=0
_shtab_tallyd_contract_check___json_nargs=0
_shtab_tallyd_contract_docs__h_nargs=0
_shtab_tallyd_contract_docs___help_nargs=0
_shtab_tallyd_contract_docs___check_nargs=0
_shtab_tallyd_contract_diff__h_nargs=0
_shtab_tallyd_contract_diff___help_nargs=0
_shtab_tallyd_contract_diff___json_nargs=0
_shtab_tallyd_contract_schema__h_nargs=0
_shtab_tallyd_contract_schema___help_nargs=0
_shtab_tallyd_contract_schema___check_nargs=0
_shtab_tallyd_contract_build__h_nargs=0
_shtab_tallyd_contract_build___help_nargs=0
_shtab_tallyd_contract_build___check_nargs=0
_shtab_tallyd_contract_build___off_nargs=0
_shtab_tallyd_contract_add__h_nargs=0
_shtab_tallyd_contract_add___help_nargs=0
_shtab_tallyd_contract_list__h_nargs=0
_shtab_tallyd_contract_list___help_nargs=0
_shtab_tallyd_contract_list___json_nargs=0
_shtab_tallyd_contract_pos_0_nargs=A...
_shtab_tallyd_contract__h_nargs=0
_shtab_tallyd_contract___help_nargs=0
_shtab_tallyd_service_install__h_nargs=0
_shtab_tallyd_service_install___help_nargs=0
_shtab_tallyd_service_install___on_demand_nargs=0
_shtab_tallyd_service_install___no_start_nargs=0
_shtab_tallyd_service_install___dry_run_nargs=0
_shtab_tallyd_service_install___json_nargs=0
_shtab_tallyd_service_uninstall__h_nargs=0
_shtab_tallyd_service_uninstall___help_nargs=0
_shtab_tallyd_service_uninstall___purge_nargs=0
_shtab_tallyd_service_uninstall___dry_run_nargs=0
_shtab_tallyd_service_uninstall___json_nargs=0
_shtab_tallyd_service_start__h_nargs=0
_shtab_tallyd_service_start___help_nargs=0
_shtab_tallyd_service_start___dry_run_nargs=0
_shtab_tallyd_service_start___json_nargs=0
_shtab_tallyd_service_stop__h_nargs=0
_shtab_tallyd_service_stop___help_nargs=0
_shtab_tallyd_service_stop___dry_run_nargs=0
_shtab_tallyd_service_stop___json_nargs=0
_shtab_tallyd_service_restart__h_nargs=0
_shtab_tallyd_service_restart___help_nargs=0
_shtab_tallyd_service_restart___dry_run_nargs=0
_shtab_tallyd_service_restart___json_nargs=0
_shtab_tallyd_service_status__h_nargs=0
_shtab_tallyd_service_status___help_nargs=0
_shtab_tallyd_service_status___json_nargs=0
_shtab_tallyd_service_logs__h_nargs=0
_shtab_tallyd_service_logs___help_nargs=0
_shtab_tallyd_service_logs__f_nargs=0
_shtab_tallyd_service_logs___follow_nargs=0
_shtab_tallyd_service_print__h_nargs=0
_shtab_tallyd_service_print___help_nargs=0
_shtab_tallyd_service_print___on_demand_nargs=0
_shtab_tallyd_service_print___systemd_nargs=0
_shtab_tallyd_service_print___launchd_nargs=0
_shtab_tallyd_service_print___json_nargs=0
_shtab_tallyd_service_pos_0_nargs=A...
_shtab_tallyd_service__h_nargs=0
_shtab_tallyd_service___help_nargs=0
_shtab_tallyd_demo__h_nargs=0
_shtab_tallyd_demo___help_nargs=0
_shtab_tallyd_demo___keep_nargs=0
_shtab_tallyd_completion__h_nargs=0
_shtab_tallyd_completion___help_nargs=0
_shtab_tallyd_pos_0_nargs=A...
_shtab_tallyd__h_nargs=0
_shtab_tallyd___help_nargs=0
_shtab_tallyd___version_nargs=0


_tallyd_products() {
  # Called in a shell of its own, so what is set here ends with it.
  set +eufx
  shopt -s nullglob
  shopt -u failglob nocaseglob dotglob
  LC_ALL=C
  GLOBIGNORE=
  local home file name
  case ${TALLYD_HOME-} in
    /*) home=$TALLYD_HOME/config ;;
    *) case ${XDG_CONFIG_HOME-} in
      /*) home=$XDG_CONFIG_HOME/tallyd ;;
      *) home=${HOME-}/.config/tallyd ;;
    esac ;;
  esac
  for file in "$home"/contracts/*.toml; do
    name=${file##*/}
    name=${name%.toml}
    [[ $name =~ ^[a-z0-9][a-z0-9-]{0,31}$ && $name == "${1-}"* ]] && printf '%s\n' "$name"
  done
  return 0
}

_tallyd_contract_file() {
  _tallyd_products "${1-}"
  compgen -f -- "${1-}"
}

# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
#     hello="world"
#     x="hello"
#     ${!x} -> ${hello} -> "world"
_shtab_tallyd() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_tallyd
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_tallyd tallyd
