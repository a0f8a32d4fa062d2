import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { readFileSync } from "node:fs"
import * as periscope from "./periscope.js"

const manifest = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))

describe("periscope without arguments", () => {
  it.scopedLive(
    "shows each kind of change on a server of its own, and ends by itself",
    () =>
      Effect.gen(function* () {
        const { code, millis, stderr, stdout } = yield* periscope.run([])
        assert.strictEqual(code, 0)
        assert.isBelow(millis, 20_000)
        const shown = [...stdout.matchAll(/^\d\d:\d\d:\d\d ([-+~]) demo {2}.*/gm)].map(([, symbol]) => symbol)
        assert.deepStrictEqual(shown, ["+", "~", "~", "-", "+"])
        assert.include(stdout, "replicas: 2 → 3")
        assert.match(stderr, /^\d\d:\d\d:\d\d warn demo: poll failed \(attempt 1, next in 1s\): .* answered 500/)
        assert.include(stdout, "npm start -- watch https://")
      }),
    30_000
  )

  it.scopedLive("ends with 0 at Ctrl-C, at any moment", () =>
    Effect.gen(function* () {
      for (const moment of ["periscope watches", "+ demo"]) {
        const cli = yield* periscope.start([])
        yield* cli.until(() => cli.stdout().includes(moment))
        const before = Date.now()
        cli.kill("SIGINT")
        assert.strictEqual((yield* cli.ended).code, 0)
        assert.isBelow(Date.now() - before, 1500)
      }
    })
  )
})

describe("periscope", () => {
  it.live("tells wrong arguments in one sentence, with 2, and shows help and version with 0", () =>
    Effect.gen(function* () {
      const outcomes = yield* Effect.forEach(
        [
          ["watch", "--bogus", "https://a"],
          ["once", "ws://a"],
          ["--help"],
          ["watch", "https://a", "-h"],
          ["--version"]
        ],
        (args) => Effect.map(periscope.run(args), ({ code, stderr, stdout }) => [code, stderr, stdout.split("\n")[0]])
      )
      assert.deepStrictEqual(outcomes, [
        [2, "periscope: the option --bogus is unknown; periscope --help lists them all.\n", ""],
        [
          2,
          `periscope: once ends when a source was observed, and "ws://a/" has no end; write periscope watch <source>.\n`,
          ""
        ],
        [0, "", "periscope: see what changes outside"],
        [0, "", "periscope: see what changes outside"],
        [0, "", manifest.version]
      ])
    })
  )
})
