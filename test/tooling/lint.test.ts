/** Every rule we wrote or configured ourselves rejects the snippet it is for, and lets its neighbour pass. */
import { assert, describe, it } from "@effect/vitest"
import { ESLint } from "eslint"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { fileURLToPath } from "node:url"

type Files = Readonly<Record<string, string>>

/** Lints a small project on disk and returns `rule` names by file. */
const lint = async (files: Files): Promise<Readonly<Record<string, ReadonlyArray<string>>>> => {
  const cwd = mkdtempSync(path.join(tmpdir(), "periscope-lint-"))
  try {
    for (const [name, code] of Object.entries(files)) {
      mkdirSync(path.dirname(path.join(cwd, name)), { recursive: true })
      writeFileSync(path.join(cwd, name), code)
    }
    const overrideConfigFile = fileURLToPath(new URL("eslint.config.js", import.meta.url))
    const results = await new ESLint({ cwd, overrideConfigFile }).lintFiles(["."])
    return Object.fromEntries(
      results.map(({ filePath, messages }) => [
        path.relative(cwd, filePath).replaceAll("\\", "/"),
        messages.map(({ message, ruleId }) => ruleId ?? message)
      ])
    )
  } finally {
    rmSync(cwd, { recursive: true, force: true })
  }
}

const rulesAt = async (file: string, code: string) => (await lint({ [file]: code }))[file] ?? []

const syntax = "no-restricted-syntax"
const globals = "no-restricted-globals"
const properties = "no-restricted-properties"
const restricted = "@typescript-eslint/no-restricted-imports"
const house = "house/imports"
const cycle = "house/no-cycles"

const core = "src/core/Change.ts"
const wing = "src/http/HttpSource.ts"

const rejected: ReadonlyArray<readonly [title: string, file: string, code: string, rule: string]> = [
  ["async function", core, "export const f = async (): Promise<number> => 1", syntax],
  ["async method", core, "export class A {\n  async f(): Promise<void> {}\n}", syntax],
  ["top-level await", core, "await Promise.resolve()", syntax],
  ["for await", "src/cli/bin.ts", "for await (const x of []) void x", syntax],
  ["try and finally", core, "try {\n  void 0\n} finally {\n  void 1\n}", syntax],
  ["Date.now", core, "export const now: number = Date.now()", properties],
  ["destructured Date.now", core, "const { now } = Date\nvoid now", properties],
  ["new Date()", core, "export const now: Date = new Date()", syntax],
  ["Date()", core, "export const now: string = Date()", syntax],
  ["Math.random", wing, "export const n: number = Math.random()", properties],
  ["setTimeout", wing, "setTimeout(() => {}, 1)", globals],
  ["setInterval", wing, "setInterval(() => {}, 1)", globals],
  ["setImmediate", wing, "setImmediate(() => {})", globals],
  ["queueMicrotask", wing, "queueMicrotask(() => {})", globals],
  ["globalThis.setTimeout", wing, "globalThis.setTimeout(() => {}, 1)", properties],
  ["performance.now", wing, "export const n: number = performance.now()", globals],
  ["console", wing, "console.log(1)", globals],
  ["process.env", wing, "void process.env", properties],
  ["process.exit", wing, "process.exit(1)", properties],
  ["node:timers", wing, 'import * as Timers from "node:timers/promises"\nvoid Timers', restricted],
  ["effect barrel", wing, 'import { Effect } from "effect"\nvoid Effect', restricted],
  [
    "effect barrel, type only",
    wing,
    'import type { Effect } from "effect"\nexport type A = Effect.Effect<1>',
    restricted
  ],
  ["re-exported barrel", wing, 'export { Effect } from "effect"', restricted],
  [
    "platform barrel in cli",
    "src/cli/bin.ts",
    'import { HttpClient } from "@effect/platform"\nvoid HttpClient',
    restricted
  ],
  ["any", core, "export type A = any", "@typescript-eslint/no-explicit-any"],
  [
    "value import of a type",
    core,
    'import { A } from "./A.js"\nexport type B = A',
    "@typescript-eslint/consistent-type-imports"
  ],
  [
    "untyped exported function",
    core,
    "export const f = (n: number) => n",
    "@typescript-eslint/explicit-module-boundary-types"
  ],
  [
    "untyped exported Effect",
    core,
    'import * as Effect from "effect/Effect"\nexport const f = Effect.succeed(1)',
    syntax
  ],
  ["451 lines", core, "void 0\n".repeat(451), "max-lines"],
  [
    "inline configuration",
    core,
    "/* eslint-disable */\nvoid 0",
    "'/* eslint-disable */' has no effect because you have 'noInlineConfig' setting in your config."
  ],
  ["more in an index", "src/core/index.ts", "export const one = 1", syntax],
  ["named re-export in an index", "src/core/index.ts", 'export { make } from "./Source.js"', syntax],
  ["core to a wing", core, 'import * as H from "../http/HttpSource.js"\nvoid H', house],
  ["core to testing", core, 'import * as S from "../testing/Simulator.js"\nvoid S', house],
  ["wing to a wing", wing, 'import * as L from "../log/ChangeLog.js"\nvoid L', house],
  ["wing to a wing, type only", wing, 'import type * as L from "../log/ChangeLog.js"\nexport type A = L.A', house],
  ["wing to a wing, dynamic", wing, 'void import("../log/ChangeLog.js")', house],
  ["wing to a wing, import type", wing, 'export type A = import("../log/ChangeLog.js").A', house],
  ["wing to a wing, re-exported", wing, 'export * as L from "../log/ChangeLog.js"', house],
  ["wing to testing", wing, 'import * as S from "../testing/Simulator.js"\nvoid S', house],
  ["wing to cli", wing, 'import * as C from "../cli/Command.js"\nvoid C', house],
  ["testing to cli", "src/testing/Simulator.ts", 'import * as C from "../cli/Command.js"\nvoid C', house],
  ["wing to a private file of core", wing, 'import * as E from "../core/engine.js"\nvoid E', house],
  ["cli to a private file of a wing", "src/cli/bin.ts", 'import * as V from "../http/validators.js"\nvoid V', house],
  [
    "testing to a private file of a wing",
    "src/testing/Simulator.ts",
    'import * as V from "../http/validators.js"\nvoid V',
    house
  ],
  ["import without .js", wing, 'import * as C from "../core/Change"\nvoid C', house],
  ["import that ends in .ts", wing, 'import * as C from "../core/Change.ts"\nvoid C', house],
  ["import of a folder", wing, 'import * as C from "../core"\nvoid C', house],
  ["import from outside src", wing, 'import * as C from "../../test/helper.js"\nvoid C', house],
  ["import by the package's name", wing, 'import * as C from "effect-periscope/Change"\nvoid C', house],
  ["import of itself", wing, 'import * as Self from "./HttpSource.js"\nvoid Self', cycle]
]

const accepted: ReadonlyArray<readonly [title: string, file: string, code: string]> = [
  ["throw", core, 'export const f = (): never => {\n  throw new RangeError("interval: 0")\n}'],
  ["a date of a number", core, "export const at = (n: number): Date => new Date(n)"],
  [
    "a deep import",
    wing,
    'import * as Effect from "effect/Effect"\nexport const one: Effect.Effect<1> = Effect.succeed(1)'
  ],
  [
    "a deep platform import",
    wing,
    'import type * as H from "@effect/platform/HttpClient"\nexport type A = H.HttpClient'
  ],
  [
    "a service tag",
    core,
    'import * as Context from "effect/Context"\nexport class T extends Context.Tag("T")<T, {}>() {}'
  ],
  ["a schema", core, 'import * as Schema from "effect/Schema"\nexport const S = Schema.Struct({})'],
  ["450 lines", core, "void 0\n".repeat(450) + "\n// not counted\n"],
  ["console in cli", "src/cli/bin.ts", "console.log(process.env, Date.now())"],
  ["timers in testing", "src/testing/VirtualClock.ts", "setTimeout(() => {}, Math.random())"],
  ["core to its private file", core, 'import * as E from "./engine.js"\nvoid E'],
  ["wing to core", wing, 'import * as C from "../core/Change.js"\nvoid C'],
  ["wing to the index of core", wing, 'import * as C from "../core/index.js"\nvoid C'],
  [
    "cli to every wing",
    "src/cli/bin.ts",
    'import * as H from "../http/HttpSource.js"\nimport * as S from "../testing/Simulator.js"\nvoid [H, S]'
  ],
  ["testing to a private file of core", "src/testing/Simulator.ts", 'import * as E from "../core/engine.js"\nvoid E'],
  ["an index", "src/http/index.ts", 'export * as HttpSource from "./HttpSource.js"'],
  [
    "the barrel and async in tests",
    "test/http/a.test.ts",
    'import { Effect } from "effect"\nexport const f = async () => Effect.succeed(Date.now())'
  ]
]

describe("lint", () => {
  for (const [title, file, code, rule] of rejected) {
    it(`rejects ${title}`, async () => assert.include(await rulesAt(file, code), rule))
  }

  for (const [title, file, code] of accepted) {
    it(`accepts ${title}`, async () => assert.deepStrictEqual(await rulesAt(file, code), []))
  }

  it("rejects a cycle through three files, at each of them", async () => {
    const found = await lint({
      "src/core/A.ts": 'export * as B from "./B.js"',
      "src/core/B.ts": 'import * as C from "./C.js"\nvoid C',
      "src/core/C.ts": 'void import("./A.js")',
      "src/core/D.ts": 'export * from "./A.js"'
    })
    assert.deepStrictEqual(found, {
      "src/core/A.ts": [cycle],
      "src/core/B.ts": [cycle],
      "src/core/C.ts": [cycle],
      "src/core/D.ts": []
    })
  })

  it("rejects a cycle of type-only imports", async () => {
    const code = (name: string) => `import type { T } from "./${name}.js"\nexport type U = T`
    assert.deepStrictEqual(await lint({ "src/core/A.ts": code("B"), "src/core/B.ts": code("A") }), {
      "src/core/A.ts": [cycle],
      "src/core/B.ts": [cycle]
    })
  })
})
