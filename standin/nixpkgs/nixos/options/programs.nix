# programs.*: the shells, and programs that need nothing but to be there.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption mkIf types;
  cfg = config.environment;

  # programs.<name>.enable puts the package on the system's path.
  plain = [ "direnv" "git" "htop" "iotop" "mosh" "mtr" "neovim" "tcpdump" "tmux" "traceroute" "vim" "screen" "fzf" "bat" ];

  switch = default: mkOption { type = types.bool; inherit default; };
  text = mkOption { type = types.lines; default = ""; };
  show = set: lib.concatStrings (lib.mapAttrsToList (name: value: "alias -- ${name}=${lib.escapeShellArg value}\n") set);
  aliases = show (lib.filterAttrs (_: value: value != null) cfg.shellAliases);
in
{
  options.programs = lib.genAttrs plain (name: { enable = switch false; }) // {
    less.enable = lib.mkIgnored types.bool true "less is always there";
    command-not-found.enable = lib.mkIgnored types.bool true "";
    git = { enable = switch false; config = mkOption { type = types.attrsOf (types.attrsOf types.anything); default = { }; }; };
    vim = { enable = switch false; defaultEditor = switch false; };
    neovim = { enable = switch false; defaultEditor = switch false; viAlias = switch false; vimAlias = switch false; };
    nano = { enable = switch true; nanorc = text; };
    tmux = { enable = switch false; extraConfig = text; };
    bash = {
      enable = lib.mkIgnored types.bool true "bash is always there";
      completion.enable = lib.mkIgnored types.bool false "nothing is completed";
      enableCompletion = lib.mkIgnored types.bool false "nothing is completed";
      shellAliases = mkOption { type = types.attrsOf types.str; default = { }; };
      shellInit = text;
      loginShellInit = text;
      interactiveShellInit = text;
      promptInit = mkOption {
        type = types.lines;
        # NixOS's, to the letter: what drives the console must cope with it.
        default = ''
          # Provide a nice prompt if the terminal supports it.
          if [ "$TERM" != "dumb" ] || [ -n "$INSIDE_EMACS" ]; then
            PROMPT_COLOR="1;31m"
            ((UID)) && PROMPT_COLOR="1;32m"
            if [ -n "$INSIDE_EMACS" ]; then
              # Emacs term mode doesn't support xterm title escape sequence (\e]0;)
              PS1="\n\[\033[$PROMPT_COLOR\][\u@\h:\w]\\$\[\033[0m\] "
            else
              PS1="\n\[\033[$PROMPT_COLOR\][\[\e]0;\u@\h: \w\a\]\u@\h:\w]\\$\[\033[0m\] "
            fi
            if test "$TERM" = "xterm"; then
              PS1="\[\033]2;\h:\u:\w\007\]$PS1"
            fi
          fi
        '';
      };
    };
    zsh = { enable = switch false; enableCompletion = lib.mkIgnored types.bool true "nothing is completed"; promptInit = text; interactiveShellInit = text; shellAliases = mkOption { type = types.attrsOf types.str; default = { }; }; };
    fish = { enable = switch false; interactiveShellInit = text; shellInit = text; shellAliases = mkOption { type = types.attrsOf types.str; default = { }; }; };
  };

  config = {
    environment.systemPackages =
      lib.concatMap (name: lib.optional config.programs.${name}.enable pkgs.${name}) plain
      ++ lib.optional config.programs.zsh.enable pkgs.zsh
      ++ lib.optional config.programs.fish.enable pkgs.fish
      ++ lib.optionals config.programs.neovim.enable (
        lib.optional config.programs.neovim.viAlias (pkgs.writeShellScriptBin "vi" "exec nvim \"$@\"\n")
        ++ lib.optional config.programs.neovim.vimAlias (pkgs.writeShellScriptBin "vim" "exec nvim \"$@\"\n"));
    environment.variables.EDITOR = lib.mkMerge [
      (mkIf config.programs.vim.defaultEditor (lib.mkOverride 900 "vim"))
      (mkIf (config.programs.neovim.enable && config.programs.neovim.defaultEditor) (lib.mkOverride 900 "nvim"))
    ];
    environment.shellAliases = {
      ls = lib.mkDefault "ls --color=tty";
      ll = lib.mkDefault "ls -l";
      l = lib.mkDefault "ls -alh";
    };

    environment.etc = {
      profile.text = ''
        # /etc/profile: written by the stand-in. Read by bash and sh for login shells.
        if [ -n "$__ETC_PROFILE_SOURCED" ]; then return; fi
        __ETC_PROFILE_SOURCED=1
        if [ -z "$__NIXOS_SET_ENVIRONMENT_DONE" ]; then . /etc/set-environment; fi
        ${cfg.shellInit}
        ${config.programs.bash.shellInit}
        ${cfg.loginShellInit}
        ${config.programs.bash.loginShellInit}
        if [ -f /etc/profile.local ]; then . /etc/profile.local; fi
        if [ -n "''${BASH_VERSION:-}" ]; then . /etc/bashrc; fi
      '';
      bashrc.text = ''
        # /etc/bashrc: written by the stand-in.
        if [ -n "$__ETC_BASHRC_SOURCED" ] || [ -n "$NOSYSBASHRC" ]; then return; fi
        __ETC_BASHRC_SOURCED=1
        if [ -z "$__ETC_PROFILE_DONE$__NIXOS_SET_ENVIRONMENT_DONE" ]; then . /etc/set-environment; fi
        # Only execute this file for interactive shells.
        if [ -n "$PS1" ]; then
        # Check the window size after every command.
        shopt -s checkwinsize
        ${config.programs.bash.promptInit}
        ${aliases}
        ${cfg.interactiveShellInit}
        ${config.programs.bash.interactiveShellInit}
        ${show config.programs.bash.shellAliases}
        fi
      '';
      # Where Debian's bash looks for it.
      "bash.bashrc".text = ". /etc/bashrc\n";
    } // lib.optionalAttrs (config.programs.git.config != { }) {
      gitconfig.text = lib.generators.toINI { } config.programs.git.config;
    } // lib.optionalAttrs (config.programs.nano.enable && config.programs.nano.nanorc != "") {
      nanorc.text = config.programs.nano.nanorc;
    } // lib.optionalAttrs config.programs.tmux.enable {
      "tmux.conf".text = config.programs.tmux.extraConfig;
    } // lib.optionalAttrs (builtins.any (s: s == pkgs.zsh) cfg.systemPackages) {
      "zsh/zshenv".text = "if [ -z \"$__NIXOS_SET_ENVIRONMENT_DONE\" ]; then . /etc/set-environment; fi\n";
      "zsh/zprofile".text = "# Nothing: /etc/zsh/zshenv sets the environment.\n";
      "zsh/zshrc".text = ''
        autoload -U promptinit && promptinit && prompt suse && setopt prompt_sp
        ${aliases}
        ${cfg.interactiveShellInit}
        ${show config.programs.zsh.shellAliases}
        ${config.programs.zsh.interactiveShellInit}
        ${config.programs.zsh.promptInit}
      '';
    } // lib.optionalAttrs (builtins.any (s: s == pkgs.fish) cfg.systemPackages) {
      "fish/conf.d/standin.fish".text = ''
        # fish reads no sh: PATH as /etc/set-environment has it.
        set -gx PATH /run/wrappers/bin $HOME/.nix-profile/bin /etc/profiles/per-user/$USER/bin /run/current-system/sw/bin
        ${config.programs.fish.shellInit}
        if status is-interactive
        ${lib.concatStrings (lib.mapAttrsToList (name: value: "alias ${name} ${lib.escapeShellArg value}\n") config.programs.fish.shellAliases)}
        ${config.programs.fish.interactiveShellInit}
        end
      '';
    };
  };
}
