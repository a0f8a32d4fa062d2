import { assert, describe, it } from "@effect/vitest"
import { Either } from "effect"
import type * as credentials from "../../src/cli/credentials.js"
import * as options from "../../src/cli/options.js"
import * as plan from "../../src/cli/plan.js"
import * as sourceUri from "../../src/cli/sourceUri.js"
import type { Value } from "../../src/cli/value.js"
import * as value from "../../src/cli/value.js"

const planned = (...args: ReadonlyArray<string>) =>
  Either.flatMap(options.parse(args), (given) => plan.make(given, { TOKEN: "sec-token" }))

const problem = (...args: ReadonlyArray<string>): string =>
  Either.getOrElse(Either.flip(planned(...args)), () => "accepted")

describe("ws:// and wss:// on the command line", () => {
  it("are named without user info, query and fragment", () => {
    const parsed = Either.getOrThrow(sourceUri.parse("wss://me:sec-pass@Example.com:8443/a?sec-query#sec"))
    assert.deepInclude(parsed, { kind: "ws", name: "wss://example.com:8443/a", isNamed: false })
    assert.strictEqual(parsed.kind === "ws" ? parsed.url.href : "", "wss://me:sec-pass@example.com:8443/a?sec-query")
    assert.strictEqual(Either.getOrThrow(sourceUri.parse("feed=ws://localhost:1")).name, "feed")
  })

  it("take headers and a token, each for its origin", () => {
    const { sources } = Either.getOrThrow(
      planned("watch", "ws://a", "x=ws://b", "--header", "x:K: v", "--bearer-token-env", "x=TOKEN")
    )
    assert.deepStrictEqual(
      sources.map(({ bearerToken, headers }: credentials.Credentials) => [
        Object.keys(headers),
        bearerToken !== undefined
      ]),
      [
        [[], false],
        [["K"], true]
      ]
    )
    assert.match(problem("watch", "ws://a", "wss://a", "--header", "K: v"), /more than one origin/)
    assert.match(
      problem("watch", "ws://me:sec-pass@a", "--bearer-token-env", "TOKEN"),
      /^a ws:\/\/ address has a user, and a token or Authorization header is given too/
    )
  })

  for (const [args, says] of [
    [
      ["watch", "ws:sec-pass@a"],
      /a source is not a valid address; write it whole, such as wss:\/\/example\.com\/events/
    ],
    [["watch", "ws://"], /not a valid address/],
    [["once", "x=ws://a"], /^once ends when a source was observed, and "x" has no end; write periscope watch/]
  ] as const) {
    it(`${args.join(" ")} is refused in a sentence, without secrets`, () => {
      assert.match(problem(...args), says)
      assert.notInclude(problem(...args), "sec-")
    })
  }

  it("frames are JSON with the digits that were sent, text, or bytes", () => {
    const line = (frame: string | Uint8Array): string => value.encode({ frame } as Value)
    assert.strictEqual(
      line('{ "id": 12345678901234567890, "b": "x y" }'),
      '{"json":{"id":12345678901234567890,"b":"x y"}}'
    )
    assert.strictEqual(line("null"), '{"json":null}')
    assert.strictEqual(line("{ broken\n"), '{"body":"{ broken\\n"}')
    assert.strictEqual(line(new Uint8Array([0, 255])), '{"bodyBase64":"AP8="}')
  })
})
