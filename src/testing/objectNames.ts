/**
 * Odd names of objects, by what makes them odd: a store holds a whole class of them or refuses it.
 */

/**
 * What some stores cannot hold.
 *
 * - `dots`: `.` and `..` alone. `dotSegments`: the same between slashes. `emptySegments`: `//`. `leadingSlash`, `trailingSlash`.
 * - `besideFolders`: an object `a` beside an object `a/b`.
 * - `controls`: newline, tab and other control characters but NUL. `nul`: U+0000.
 * - `nonCharacters`: U+FFFE and U+FFFF, which XML 1.0 cannot hold.
 * - `backslashes`: `\`. `trailingDots`: a segment that ends in `.` or a space. `longSegments`: more than 255 bytes between
 *   slashes.
 * - `lookalikes`: keys that differ only in case, or in how an accent is composed.
 *
 * @category models
 * @since 0.1.0
 */
export type NameClass =
  | "dots"
  | "dotSegments"
  | "emptySegments"
  | "leadingSlash"
  | "trailingSlash"
  | "besideFolders"
  | "controls"
  | "nul"
  | "nonCharacters"
  | "backslashes"
  | "trailingDots"
  | "longSegments"
  | "lookalikes"

/** What every store has to hold. */
const plain: ReadonlyArray<string> = [
  "a b",
  " leading space/ x",
  "a+b",
  "a%b",
  "a%2Fb",
  "a%252Fb",
  "%",
  "%zz",
  "a&b",
  "&amp;",
  "a<b>c",
  "]]>",
  "<!-- c -->",
  "a\"b'c",
  "a?b=c",
  "a#b",
  "a;b",
  "a:b",
  "https:/example.com/x",
  "a=b,c",
  "(a)[b]{c}*!~$@^`|",
  "folder/with space/+/%20/x",
  "\u00e9 composed",
  "e\u0301 decomposed",
  "日本語/キー",
  "한국어",
  "العربية",
  "\ud83d\ude00 emoji",
  "\ud83d\udc68\u200d\ud83d\udc69\u200d\ud83d\udc67",
  "\ue000 private",
  "\uf8ff private",
  "\uff5e wide",
  "\ufffd replacement",
  "\ud800\udc00 astral",
  "\udbff\udffd astral",
  "\ufeffbom",
  "\u00a0no-break",
  "\u200bzero width",
  "..a/b..c",
  ".hidden/.x",
  "...",
  "~tilde",
  "-dash",
  "__proto__",
  "constructor"
]

const classes: Readonly<Record<NameClass, ReadonlyArray<string>>> = {
  dots: [".", ".."],
  dotSegments: ["../a", "b/../a", "b/./a", "./a", "b/..", "b/.", "../../etc/passwd"],
  emptySegments: ["b//a", "b///a", "b//"],
  leadingSlash: ["/a", "/", "//", "/b/a"],
  trailingSlash: ["c/", "c/d/"],
  besideFolders: ["a/b", "b/a/b", "b"],
  controls: [
    "new\nline",
    "\ttab",
    "carriage\rreturn",
    "\u0001",
    "bell\u0007",
    "escape\u001b[0m",
    "delete\u007f",
    "\u0085"
  ],
  nul: ["nul\u0000byte"],
  nonCharacters: ["\ufffe", "x\uffff"],
  backslashes: ["back\\slash", "\\", "..\\a"],
  trailingDots: ["trailing.", "trailing ", "folder./x"],
  longSegments: ["x".repeat(256), "x".repeat(1024), "é".repeat(200)],
  lookalikes: ["case", "CASE", "Case", "same \u00e9", "same e\u0301"]
}

/** The names that a store has to hold, and those that it has to refuse beside objects `a` and `b/a`; `untried` are neither. */
export const namesOf = (
  cannotHold: ReadonlyArray<NameClass>,
  untried: ReadonlyArray<NameClass> = []
): { readonly held: ReadonlyArray<string>; readonly refused: ReadonlyArray<string> } => {
  const held = [...plain]
  const refused: Array<string> = []
  for (const [name, keys] of Object.entries(classes)) {
    if (untried.includes(name as NameClass)) continue
    const isRefused = cannotHold.includes(name as NameClass)
    // of keys that look alike each is fine by itself
    if (isRefused && name !== "lookalikes") refused.push(...keys)
    if (!isRefused) held.push(...keys)
  }
  return { held, refused }
}

/** A key of 1024 bytes, in segments of at most 200. */
export const longKey = (letter: string): string => {
  const segment = letter.repeat(200 / Buffer.byteLength(letter))
  const key = [segment, segment, segment, segment, segment].join("/")
  return key + "x".repeat(1024 - Buffer.byteLength(key))
}
