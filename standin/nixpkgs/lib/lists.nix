# Lists.
lib:

let
  inherit (builtins) elemAt length genList filter concatLists;
in
rec {
  inherit (builtins) head tail length elem elemAt filter concatLists concatMap foldl' genList sort any all isList map
    partition groupBy;

  singleton = x: [ x ];
  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  toList = x: if builtins.isList x then x else [ x ];
  flatten = x: if builtins.isList x then builtins.concatMap flatten x else [ x ];
  forEach = list: f: map f list;
  imap0 = f: list: genList (n: f n (elemAt list n)) (length list);
  imap1 = f: list: genList (n: f (n + 1) (elemAt list n)) (length list);
  range = first: last: if first > last then [ ] else genList (n: first + n) (last - first + 1);
  replicate = n: x: genList (_: x) n;
  foldr = op: nul: list:
    let go = n: if n == length list then nul else op (elemAt list n) (go (n + 1)); in go 0;
  fold = foldr;
  foldl = builtins.foldl';
  sublist = start: count: list:
    let
      size = length list;
      stop = lib.min size (start + count);
    in
    if start >= size then [ ] else genList (n: elemAt list (start + n)) (stop - start);
  take = sublist 0;
  drop = count: list: sublist count (length list) list;
  takeWhile = predicate: list:
    if list == [ ] || !(predicate (builtins.head list)) then [ ] else [ (builtins.head list) ] ++ takeWhile predicate (builtins.tail list);
  last = list: if list == [ ] then throw "lib.last: empty list" else elemAt list (length list - 1);
  init = list: take (length list - 1) list;
  reverseList = list: let l = length list; in genList (n: elemAt list (l - n - 1)) l;
  unique = builtins.foldl' (acc: x: if builtins.elem x acc then acc else acc ++ [ x ]) [ ];
  uniqueStrings = list: builtins.attrNames (builtins.groupBy lib.id list);
  remove = x: filter (y: x != y);
  subtractLists = minus: filter (x: !(builtins.elem x minus));
  intersectLists = other: filter (x: builtins.elem x other);
  findFirst = predicate: default: list:
    let found = filter predicate list; in if found == [ ] then default else builtins.head found;
  findSingle = predicate: default: multiple: list:
    let found = filter predicate list; in
    if found == [ ] then default else if length found != 1 then multiple else builtins.head found;
  count = predicate: list: length (filter predicate list);
  zipListsWith = f: a: b: genList (n: f (elemAt a n) (elemAt b n)) (lib.min (length a) (length b));
  zipLists = zipListsWith (fst: snd: { inherit fst snd; });
  cartesianProductOfSets = sets:
    builtins.foldl' (acc: name: builtins.concatMap (set: map (x: set // { ${name} = x; }) sets.${name}) acc) [ { } ]
      (builtins.attrNames sets);
  sortOn = key: builtins.sort (a: b: key a < key b);
  naturalSort = builtins.sort builtins.lessThan;
  crossLists = f: builtins.foldl' (fs: args: builtins.concatMap (g: map g args) fs) [ f ];
  compareLists = cmp: a: b:
    if a == [ ] then (if b == [ ] then 0 else -1)
    else if b == [ ] then 1
    else let c = cmp (builtins.head a) (builtins.head b); in
      if c != 0 then c else compareLists cmp (builtins.tail a) (builtins.tail b);
  allUnique = list: length (unique list) == length list;
}
