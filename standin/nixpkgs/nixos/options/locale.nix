# Time zone, language and the look of the text console.
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  accepted = type: default: mkOption { inherit type default; description = "Accepted, no effect."; };
in
{
  options = {
    time.timeZone = mkOption { type = types.nullOr types.str; default = null; };
    time.hardwareClockInLocalTime = accepted types.bool false;
    i18n.defaultLocale = mkOption { type = types.str; default = "en_US.UTF-8"; description = "LANG; Debian's C.UTF-8 stands in for the locale itself."; };
    i18n.extraLocaleSettings = mkOption { type = types.attrsOf types.str; default = { }; };
    i18n.supportedLocales = accepted (types.listOf types.str) [ ];
    i18n.inputMethod = accepted (types.attrsOf types.anything) { };
    console = accepted (types.attrsOf types.anything) { };
    location = accepted (types.attrsOf types.anything) { };
    fonts = accepted (types.attrsOf types.anything) { };
  };

  config = {
    # Only C.UTF-8 is in the image; programs that are told of a locale that is not there complain.
    environment.sessionVariables.LANG = lib.mkDefault "C.UTF-8";
    environment.etc = {
      "locale.conf".text = "LANG=C.UTF-8\n";
      localtime.source = "/usr/share/zoneinfo/${if config.time.timeZone == null then "UTC" else config.time.timeZone}";
      timezone.text = "${if config.time.timeZone == null then "UTC" else config.time.timeZone}\n";
    };
  };
}
