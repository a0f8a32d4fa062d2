import { assert, describe, it } from "@effect/vitest"
import { exportsOf, problems } from "./exports.js"

const target = (path: string) => ({ types: `./dist/${path}.d.ts`, default: `./dist/${path}.js` })

const files = [
  "core/index.ts",
  "core/Change.ts",
  "core/engine.ts",
  "http/HttpSource.ts",
  "http/index.ts",
  "cli/Command.ts"
]

const declared = {
  ".": target("core/index"),
  "./Change": target("core/Change"),
  "./http": target("http/index"),
  "./http/HttpSource": target("http/HttpSource"),
  "./package.json": "./package.json"
}

describe("exports", () => {
  it("are the index and PascalCase files of every folder but cli, core first", () => {
    assert.deepStrictEqual(Object.entries(exportsOf([...files].reverse())), Object.entries(declared))
    assert.deepStrictEqual(
      problems(declared, files, () => true),
      []
    )
  })

  it("name a public module that is not exported", () => {
    const { "./Change": _, ...rest } = declared
    assert.deepStrictEqual(
      problems(rest, files, () => true),
      ["./Change is a public module that package.json does not export"]
    )
  })

  it("name a private file that is exported", () => {
    assert.deepStrictEqual(
      problems({ ...declared, "./engine": target("core/engine") }, files, () => true),
      ["./engine is exported but is no public module of src"]
    )
  })

  it("name a wrong target and one that was not built", () => {
    const wrong = { ...declared, "./Change": target("core/engine") }
    assert.deepStrictEqual(
      problems(wrong, files, (path) => path !== "./dist/core/engine.d.ts"),
      ["./Change has the wrong target", "./dist/core/engine.d.ts does not exist after the build"]
    )
  })
})
