import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as double from "../http/server.js"
import type { Line } from "./periscope.js"
import * as periscope from "./periscope.js"

const fast = ["--interval", "20ms", "--max-backoff", "50ms"]
const told = ({ key, type, value }: Line) => `${type} ${key} ${JSON.stringify(value?.["json"]) ?? ""}`.trim()

/** Pages of two; the address of the next one stands in the page. */
const serve = (server: double.TestServer, all: ReadonlyArray<string>): void =>
  server.answer((request, response) => {
    const page = Number(new URL(request.url!, "http://x").searchParams.get("page") ?? 1)
    const next = page * 2 < all.length ? `"?page=${page + 1}"` : "null"
    response.end(`{ "data": { "list": [ ${all.slice(page * 2 - 2, page * 2).join(", ")} ] }, "next": ${next} }`)
  })

const item = (id: string, n: number | string) => `{"id": ${id}, "n": ${n}}`

describe("periscope watch --key", () => {
  it.scopedLive("H10 prints the changes of each item of a paged list, its numbers as they were sent", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const folder = yield* periscope.folder
      const args = (command: string) => [
        ...[command, `l=${server.url()}`, ...fast, "--state", folder],
        ...["--items", "data.list", "--key", "id", "--next", "next"]
      ]
      serve(server, [item("9007199254740993", 1), item("9007199254740992", 1), item('"c"', 1.5)])
      const cli = yield* periscope.start(args("watch"))
      yield* cli.until(() => cli.lines().length === 3)
      serve(server, [item("9007199254740993", 1), item('"c"', "12345678901234567890"), item('"d"', 4)])
      yield* cli.until(() => cli.lines().length === 6)
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      assert.include(stdout, '{"json":{"id":9007199254740993,"n":1}}')
      assert.include(
        stdout,
        '"value":{"json":{"id":"c","n":12345678901234567890}},"previous":{"json":{"id":"c","n":1.5}}'
      )
      assert.deepStrictEqual(periscope.parsed(stdout).map(told), [
        'Added 9007199254740992 {"id":9007199254740992,"n":1}',
        'Added 9007199254740993 {"id":9007199254740992,"n":1}',
        'Added c {"id":"c","n":1.5}',
        'Modified c {"id":"c","n":12345678901234567000}',
        'Added d {"id":"d","n":4}',
        "Removed 9007199254740992"
      ])
      // a run by cron goes on from there: two of them miss an item before it is removed
      serve(server, [item("9007199254740993", 1), item('"d"', 4), item('"e"', 5)])
      const runs = yield* Effect.forEach([1, 2, 3], () => periscope.run(args("once")))
      assert.deepStrictEqual(
        runs.map(({ code, stdout }) => [code, periscope.parsed(stdout).map(told)]),
        [
          [0, ['Added e {"id":"e","n":5}']],
          [0, ["Removed c"]],
          [0, []]
        ]
      )
      const other = yield* periscope.run([
        ...["once", `l=${server.url()}`, "--state", folder, "--items", "data.list", "--key", "n"]
      ])
      assert.strictEqual(other.code, 1)
      assert.match(other.stderr, /^periscope: l: .*--reset l\)\.\n$/)
    })
  )

  it.scopedLive("H10 filters compare numbers that JavaScript cannot hold, and print them as they were sent", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(
        double.content('[{"id":"a","n":9007199254740993},{"id":"b","n":3.3000000000000000001},{"id":"c","n":1}]')
      )
      const { code, stdout } = yield* periscope.run(["once", server.url(), "--items", "$[?@.n>1]", "--key", "id"])
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(stdout.match(/"json":\{.*?\}/g), [
        '"json":{"id":"a","n":9007199254740993}',
        '"json":{"id":"b","n":3.3000000000000000001}'
      ])
      server.answer(double.content('{"message":"rate limited"}'))
      const limited = yield* periscope.run(["once", server.url(), "--items", "$[?@.n>1]", "--key", "id"])
      assert.strictEqual(limited.code, 1)
      assert.include(limited.stderr, "expected a list at $[?@.n>1]")
    })
  )

  it.scopedLive("H10 a page without its list is a failed poll that removes nothing", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      serve(server, [item('"a"', 1)])
      const cli = yield* periscope.start([
        ...["watch", `l=${server.url()}`, ...fast, "--items", "$.data.list", "--key", "id", "--format", "pretty"]
      ])
      yield* cli.until(() => cli.stdout().includes("appeared"))
      for (const [body, sentence] of [
        ['{"data":{}}', "expected a list at $.data.list"],
        ['{"data":{"list":[{"n":1}]}}', "expected a text or a number at $.id of each item"],
        ['{"data":{"list":[{"id":null}]}}', "expected a text or a number at $.id of each item"],
        ['{"data":{"list":[', "bytes that are not valid JSON"]
      ] as const) {
        const before = cli.stderr().length
        server.answer(double.content(body))
        yield* cli.until(() => cli.stderr().slice(before).includes(sentence))
      }
      serve(server, [item('"a"', 2)])
      yield* cli.until(() => cli.stdout().includes("n: 1 → 2"))
      assert.deepStrictEqual(cli.stdout().match(/[+~-] l/g), ["+ l", "~ l"])
      assert.notInclude(cli.stdout(), "gone")
    })
  )
})
