# Time zone, language and the look of the text console.
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  accepted = type: default: lib.mkIgnored type default "";
  onlyC = "LANG is C.UTF-8, the one locale of the image";
in
{
  options = {
    time.timeZone = mkOption { type = types.nullOr types.str; default = null; };
    time.hardwareClockInLocalTime = accepted types.bool false;
    i18n.defaultLocale = lib.mkIgnored types.str "en_US.UTF-8" onlyC;
    i18n.extraLocaleSettings = lib.mkIgnored (types.attrsOf types.str) { } onlyC;
    i18n.supportedLocales = lib.mkIgnored (types.listOf types.str) [ ] onlyC;
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
