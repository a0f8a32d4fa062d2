import { assert, describe, it } from "@effect/vitest"
import { extract } from "./examples.js"

describe("examples in Markdown", () => {
  it("are the ts blocks, each with its line", () => {
    const markdown = ["# A", "```sh", "npm i", "```", "", "```ts", "const a = 1", "```", "```typescript", "b()", "```"]
    assert.deepStrictEqual(extract(markdown.join("\n")), [
      { line: 7, code: "const a = 1" },
      { line: 10, code: "b()" }
    ])
  })

  it("continue the block before where a comment says so, on their own lines", () => {
    const markdown = ["```ts", "one", "two", "```", "Then:", "", "<!-- continues -->", "```ts", "three", "```"]
    assert.deepStrictEqual(extract(markdown.join("\n")), [{ line: 2, code: "one\ntwo\n\n\n\n\n\nthree" }])
  })

  it("may hold shorter fences", () => {
    assert.deepStrictEqual(extract(["````ts", "```", "x", "````"].join("\n")), [{ line: 2, code: "```\nx" }])
  })
})
