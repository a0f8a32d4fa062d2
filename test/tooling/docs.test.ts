import { assert, describe, it } from "@effect/vitest"
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { beforeAll } from "vitest"
import { docs } from "./docs.js"
import type { Problem } from "./examples.js"
import { optionsOf, renew } from "./examples.js"

const root = fileURLToPath(new URL(`../../.generated/planted-${process.pid}`, import.meta.url))

const header = "/**\n * Is planted.\n *\n * @since 0.1.0\n */\n"

/** A docstring; `tags` are those that are left. */
const doc = (text: string, tags = ["@category numbers", "@since 0.1.0"]): string =>
  `\n/**\n${[...text.split("\n"), "", ...tags].map((line) => ` * ${line}`).join("\n")}\n */\n`

const example = (...lines: ReadonlyArray<string>): string =>
  ["Is a number.", "", "**Example**", "```ts", ...lines, "```"].join("\n")

const use = 'import { Good } from "planted"'

/** The modules of a package that is wrong in every way, one a module. */
const planted: Record<string, string> = {
  Good:
    header +
    doc(`Doubles.\n\n${example(use, "", "Good.double(2) // => 4", "const text = `", "@since no version`")}`) +
    "export const double = (n: number): number => n * 2\n" +
    doc("Halves. See {@link double}, {@link Good.double}, {@link onlyHere} and {@link https://example.com}.") +
    "export type Half = number\n" +
    doc("Marks numbers.", ["@category type ids", "@since 0.1.0"]) +
    'export const TypeId = "planted"\n' +
    doc("Guards.\n\n**Example** See {@link isGood}.") +
    "export const isBad = (_: unknown): boolean => false\n" +
    doc(example(use, "Good.isGood(1) !== Good.isBad(1) // => true")) +
    "export const isGood = (_: unknown): boolean => true\n" +
    doc("Is for the other modules only.", ["@internal"]) +
    "export const internal = 1\n" +
    "export {\n  /**\n   * @category errors\n   * @since 0.2.0\n   */\n  Failure\n} from './hidden.js'\n",
  Elsewhere:
    header +
    "import type { Half } from './Good.js'\nimport type { Secret } from './hidden.js'\n" +
    doc("Is only here.") +
    "export type onlyHere = Half | Secret\n",
  Headless: 'import "./Good.js"\n',
  Bare: `${header}import "./Good.js"\nexport const x = 1\n`,
  Empty: header + "\n/**\n * @category numbers\n * @since 0.1.0\n */\nexport type Empty = 1\n",
  Untagged: header + doc("Is a type.", []) + "export type Untagged = 1\n",
  UpperCase: header + doc("Is a type.", ["@category Types", "@since 0.1.0"]) + "export type UpperCase = 1\n",
  OneLine: header + "\n/** Is a type. @category numbers @since 0.1.0 */\nexport type OneLine = 1\n",
  ReExport: `${header}export type { Note } from "./hidden.js"\n`,
  NoExample:
    header +
    doc("Is a function.") +
    "export function called(n: number): number\n" +
    "export function called(n: string): number\nexport function called(n: unknown): unknown {\n  return n\n}\n" +
    doc("Is a class.") +
    "export class Provided {}\n" +
    doc("Shares what has none.\n\n**Example** See {@link called}.") +
    "export const shares = 1\n" +
    doc("Has an example of something else.\n\n```ts\nconst other = 1\n```") +
    "export const untitled = 1\n",
  Unnamed: header + doc(example("const other = 1")) + "export const one = 1\n",
  Uncompilable: header + doc(example(use, 'Good.double("2")')) + "export const double = 1\n",
  WrongResult: header + doc(example(use, "const double = Good.double(2) // => 5")) + "export const double = 1\n",
  Failing: header + doc(example("const fails = 1 // => 1", 'throw new Error("no")')) + "export const fails = 1\n",
  Unreached:
    header + doc(example("const hidden = () => {", "  return 1 // => 2", "}", "hidden")) + "export const hidden = 1\n",
  Unattached: header + doc(example("const one = 1", "// => 1")) + "export const one = 1\n",
  Dangling:
    header.replace("planted", "{@link nothing}") +
    doc("Is like {@link Good.nothing}, and {@link double}, which two modules have.") +
    "export interface Dangling {\n  /** Is {@link lost}. */\n  readonly a: 1\n}\n"
}

const hidden =
  doc(
    "Fails. The real docstring.\n\n" + example('import { Good } from "planted"', "Good.Failure.name // => 'Failure'"),
    []
  ) +
  "export class Failure {\n  private readonly secret = 1\n  /** Whether it is. */\n  get is(): boolean {\n    return this.secret === 1\n  }\n}\n" +
  doc("Notes.", []) +
  "export type Note = 1\n" +
  doc("Whispers of a {@link Good.Half}.", []) +
  "export type Secret = Whisper | 2\ntype Whisper = 3\n"

let problems: ReadonlyArray<Problem> = []
let summary = ""

const fileOf = (module: string) => `src/core/${module}.ts`

/** The problems of a module, each with the text of the line that it names. */
const problemsOf = (module: string): ReadonlyArray<readonly [text: string, message: string]> =>
  problems
    .filter(({ file }) => file === fileOf(module))
    .map(({ line, message }) => [planted[module]!.split("\n")[line - 1]!.trim(), message])

const pageOf = (name: string) => readFileSync(path.join(root, ".generated/api", name), "utf8")

const dangling = "* Is like {@link Good.nothing}, and {@link double}, which two modules have."

describe("docs", () => {
  beforeAll(async () => {
    renew(root)
    const write = (file: string, text: string) => {
      mkdirSync(path.dirname(path.join(root, file)), { recursive: true })
      writeFileSync(path.join(root, file), text)
    }
    const modules = Object.keys(planted)
    const target = (module: string) => ({ types: `./dist/core/${module}.d.ts`, default: `./dist/core/${module}.js` })
    const exports = {
      ".": target("index"),
      ...Object.fromEntries(modules.map((module) => [`./${module}`, target(module)])),
      "./package.json": "./package.json"
    }
    write("package.json", JSON.stringify({ name: "planted", type: "module", exports }))
    const compilerOptions = { target: "ES2022", lib: ["ES2022"], module: "NodeNext", types: [], strict: true }
    write("tsconfig.json", JSON.stringify({ files: [], compilerOptions }))
    for (const module of modules) write(fileOf(module), planted[module]!)
    write(fileOf("hidden"), hidden)
    write(fileOf("index"), `${header.replace("planted", "a {@link Good.double}")}export * as Good from "./Good.js"\n`)
    const options = { ...optionsOf(root), rootDir: `${root}/src`, outDir: `${root}/dist`, declaration: true }
    ts.createProgram(
      [...modules, "index"].map((module) => path.join(root, fileOf(module))),
      options
    ).emit()
    const found = await docs(root)
    problems = found.problems
    summary = found.summary
    return () => rmSync(root, { recursive: true, force: true })
  })

  const cases: ReadonlyArray<readonly [what: string, module: string, ReadonlyArray<readonly [string, RegExp]>]> = [
    ["find nothing wrong with documented exports", "Good", []],
    ["name a module without a header", "Headless", [['import "./Good.js"', /^has no header/]]],
    ["name an export without a docstring", "Bare", [["export const x = 1", /^Bare\.x has no docstring$/]]],
    ["name a docstring of tags only", "Empty", [["/**", /^Empty\.Empty has no description$/]]],
    [
      "name missing tags",
      "Untagged",
      [
        ["/**", /^Untagged\.Untagged has no @category/],
        ["/**", /^Untagged\.Untagged has no @since/]
      ]
    ],
    ["name a category in upper case", "UpperCase", [["/**", /^UpperCase\.UpperCase has no @category in lower case/]]],
    [
      "name tags within a line, which compilers do not read",
      "OneLine",
      [
        ["/** Is a type. @category numbers @since 0.1.0 */", /has no @category/],
        ["/** Is a type. @category numbers @since 0.1.0 */", /has no @since/]
      ]
    ],
    [
      "name values without an example",
      "NoExample",
      [
        ["/**", /^NoExample\.called has no \*\*Example\*\*$/],
        ["/**", /^NoExample\.Provided has no/],
        ["/**", /^NoExample\.shares has no/],
        ["/**", /^NoExample\.untitled has no/]
      ]
    ],
    [
      "name an example of something else",
      "Unnamed",
      [["/**", /^Unnamed\.one has an \*\*Example\*\* that does not name it$/]]
    ],
    [
      "name an example that does not compile",
      "Uncompilable",
      [['* Good.double("2")', /TS2345: Argument of type 'string'/]]
    ],
    [
      "name a stated result that is another one",
      "WrongResult",
      [["* const double = Good.double(2) // => 5", /^the result is another one:[\s\S]*4 !== 5/]]
    ],
    ["name an example that fails", "Failing", [["* const fails = 1 // => 1", /^the example fails: Error: no/]]],
    ["name a result that no run reaches", "Unreached", [["*   return 1 // => 2", /^the result is never reached$/]]],
    ["name a result that is behind nothing", "Unattached", [["* // => 1", /^the result is not behind/]]],
    [
      "name links that point nowhere, also of members",
      "Dangling",
      [
        ["* Is {@link nothing}.", /^\{@link nothing\} points nowhere$/],
        [dangling, /^\{@link Good\.nothing\} points nowhere$/],
        [dangling, /^\{@link double\} points nowhere$/],
        ["/** Is {@link lost}. */", /^\{@link lost\} points nowhere$/]
      ]
    ]
  ]
  for (const [what, module, expected] of cases) {
    it(what, () => {
      const found = problemsOf(module)
      assert.deepStrictEqual(
        found.map(([text]) => text),
        expected.map(([text]) => text),
        JSON.stringify(found)
      )
      for (const [at, [, message]] of expected.entries()) assert.match(found[at]![1], message)
    })
  }

  it("name the private file of a re-export that no file gives tags", () => {
    const found = problems.filter(({ file }) => file === fileOf("hidden"))
    assert.deepStrictEqual(
      found.map(({ line, message }) => [hidden.split("\n")[line]!.trim(), message]),
      [
        ["* Notes.", "ReExport.Note has no @category in lower case, on a line of its own"],
        ["* Notes.", "ReExport.Note has no @since with a version"]
      ]
    )
  })

  it("say what they have seen", () => {
    assert.match(summary, /^24 exports of 17 modules, 10 examples compiled, 6 run$/)
  })

  it("say what a signature names: public types by a link, private ones in full", () => {
    const page = pageOf("Elsewhere.md")
    assert.include(page, "Uses [`Good.Half`](Good.md#Half). Since 0.1.0.")
    const [, helpers] = page.split("## Types that cannot be imported")
    assert.include(
      helpers,
      "### Secret\n\nWhispers of a [`Good.Half`](Good.md#Half).\n\n```ts\ntype Secret = Whisper | 2\n```"
    )
    assert.include(helpers, "### Whisper\n\n```ts\ntype Whisper = 3\n```")
    assert.notInclude(pageOf("Good.md"), "cannot be imported")
  })

  it("write a page a module, with the docstring of a re-export where it is declared", () => {
    const page = pageOf("Good.md")
    assert.include(page, 'import { Good } from "planted"')
    assert.include(page, "Fails. The real docstring.")
    assert.include(page, "declare class Failure {\n  /** Whether it is. */\n  get is(): boolean\n}")
    assert.include(page, "declare const double: (n: number) => number")
    assert.include(page, "See [`double`](#double), [`Good.double`](#double), [`onlyHere`](Elsewhere.md#onlyHere)")
    assert.notInclude(page, "@category")
    assert.include(pageOf("index.md"), "Is a [`Good.double`](Good.md#double).")
    assert.include(pageOf("index.md"), "| [Good](Good.md) | Is planted. |")
    assert.include(pageOf("Elsewhere.md"), 'import * as Elsewhere from "planted/Elsewhere"')
    assert.isFalse(existsSync(path.join(root, ".generated/api/hidden.md")))
  })
})
