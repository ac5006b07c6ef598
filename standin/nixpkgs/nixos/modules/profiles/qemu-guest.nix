# nixpkgs has drivers of virtual machines here; the stand-in's kernel has them.
{ }
