/**
 * Goal: `periscope watch ws://…` keeps its contract, as a process of its own over a real server.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { serve } from "../socket/server.js"
import * as periscope from "./periscope.js"

describe("periscope watch ws://", { timeout: 60_000 }, () => {
  it.scopedLive("prints each frame as an Added, also of the next connection, and stops with 0 and a goodbye", () =>
    Effect.gen(function* () {
      const asked: Array<unknown> = []
      let goodbye: number | undefined
      const { url } = yield* serve({
        onConnection: (socket, n, { headers, url }) => {
          asked.push([url, headers.authorization, headers["x-key"]])
          socket.send(JSON.stringify({ n, large: 1 }).replace("1}", "12345678901234567890}"))
          socket.send("plain")
          socket.send(Buffer.from([0, 255]))
          if (n === 1) setTimeout(() => socket.terminate(), 50)
          else socket.on("close", (code) => (goodbye = code))
        }
      })
      const args = [
        "watch",
        `feed=${url}?token=sec-query`,
        "--header",
        "X-Key: sec-header",
        "--bearer-token-env",
        "TOKEN"
      ]
      const cli = yield* periscope.start(args, { TOKEN: "sec-token" })
      yield* cli.until(() => cli.lines().length === 6)
      const lines = cli.lines()
      assert.deepStrictEqual(
        lines.map(({ key, source, type }) => [type, source, key]),
        ["1", "2", "3", "4", "5", "6"].map((key) => ["Added", "feed", key])
      )
      assert.strictEqual(new Set(lines.map(({ id }) => id)).size, 6)
      assert.include(cli.stdout(), '"value":{"json":{"n":1,"large":12345678901234567890}}')
      assert.deepStrictEqual(
        lines.slice(4).map(({ value }) => value),
        [{ body: "plain" }, { bodyBase64: "AP8=" }]
      )
      const seen = ["/events?token=sec-query", "Bearer sec-token", "sec-header"]
      assert.deepStrictEqual(asked, [seen, seen])
      cli.kill("SIGTERM")
      const { code, stderr, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      assert.strictEqual(goodbye, 1000)
      assert.match(stderr, /feed: the connection was closed with 1006 .*Reconnecting in 1s/)
      assert.notInclude(stderr + stdout, "sec-")
    })
  )

  it.scopedLive("runs a command for each frame, one after the other, and again until it exits with 0", () =>
    Effect.gen(function* () {
      const folder = mkdtempSync(join(tmpdir(), "periscope-ws-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true, force: true })))
      const { url } = yield* serve({
        onConnection: (socket) => {
          for (const text of ["a", "b", "c"]) socket.send(JSON.stringify(text))
        }
      })
      const [seen, fails] = [join(folder, "seen"), join(folder, "fails")]
      const command = `cat >> ${seen}; test -e ${fails} || { touch ${fails}; exit 1; }`
      const cli = yield* periscope.start(["watch", url, "--exec", command])
      yield* cli.until(() => cli.lines().length === 3)
      const values = readFileSync(seen, "utf8")
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as periscope.Line).value)
      assert.deepStrictEqual(
        values,
        ["a", "a", "b", "c"].map((json) => ({ json }))
      )
    })
  )

  it.scopedLive("ends with 1 and a sentence where it is refused for good, or gives up", () =>
    Effect.gen(function* () {
      const { url } = yield* serve({
        onUpgrade: (_, stream) => {
          stream.end("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
          return true
        }
      })
      const refused = yield* periscope.start(["watch", `feed=${url}`])
      const { code, stderr } = yield* refused.ended
      assert.deepStrictEqual(
        [code, stderr],
        [1, "periscope: feed: the upgrade was answered with 403. Look at the credentials.\n"]
      )
      const away = yield* periscope.start(["watch", "feed=ws://127.0.0.1:9", "--give-up-after", "10ms"])
      const gone = yield* away.ended
      assert.strictEqual(gone.code, 1)
      assert.match(
        gone.stderr,
        /periscope: feed: no connection \(ECONNREFUSED\); given up after 10 ms of failed polls\.\n$/
      )
    })
  )
})
