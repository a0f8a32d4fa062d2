/**
 * Goal: `periscope watch tap://…` and `periscope tap repos …` keep their contract, as processes of their own over a real server.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as TapServer from "../../src/testing/TapServer.js"
import * as periscope from "./periscope.js"

const password = "sec-ret"
const environment = { TAP_ADMIN_PASSWORD: password }

const serving = (options: TapServer.Options = {}) =>
  Effect.map(TapServer.make({ password, retryTimeout: 200, ...options }), (server) => ({
    server,
    tap: server.url.replace("http", "tap")
  }))

const scratch = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "periscope-tap-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

describe("periscope watch tap://", { timeout: 60_000 }, () => {
  it.scopedLive("S4 S5 prints each event in the server's own JSON, and acknowledges it once its line was written", () =>
    Effect.gen(function* () {
      // an identity event that comes again before its ack has arrived is printed again (S8)
      const { server, tap } = yield* serving({ retryTimeout: 10_000 })
      server.record({ did: "did:plc:a", rkey: "1", record: { $type: "app.bsky.feed.post", text: "hé" }, rev: "r1" })
      server.record({ did: "did:plc:a", rkey: "1", action: "delete", rev: "r2" })
      server.identity({ did: "did:plc:b", handle: "b.example" })
      const cli = yield* periscope.start(["watch", `t=${tap}`], environment)
      yield* server.drained
      yield* cli.until(() => cli.lines().length === 3)
      const at = (key: string): ReadonlyArray<periscope.Line> => cli.lines().filter((line) => line.key === key)
      const [first, second] = at("at://did:plc:a/app.bsky.feed.post/1") as [periscope.Line, periscope.Line]
      const [third] = at("did:plc:b") as [periscope.Line]
      for (const line of [first, second, third]) {
        assert.deepInclude(line, { type: "Added", source: "t" })
        assert.match(line.observedAt, /^\d{4}-.*Z$/)
      }
      assert.strictEqual(new Set([first.id, second.id, third.id]).size, 3)
      assert.deepInclude(first.value, { id: 1, type: "record" })
      assert.deepInclude(first.value!["record"] as object, { live: true, rev: "r1", action: "create" })
      assert.deepStrictEqual((first.value!["record"] as Record<string, unknown>)["record"], {
        $type: "app.bsky.feed.post",
        text: "hé"
      })
      assert.deepStrictEqual(third.value, {
        id: 3,
        type: "identity",
        identity: { did: "did:plc:b", handle: "b.example", is_active: true, status: "active" }
      })
      cli.kill("SIGTERM")
      const { code, stderr, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      assert.notInclude(stderr + stdout, password)
      assert.strictEqual(server.upgrades[0]!["user-agent"], "effect-periscope")
    })
  )

  it.scopedLive("prints only the collections that are asked for, and says what it cannot read", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving()
      server.record({ did: "did:plc:a", collection: "app.bsky.feed.like", rkey: "1" })
      server.record({ did: "did:plc:b", collection: "app.bsky.feed.post", rkey: "2", live: false })
      server.frame({ did: "did:plc:c", text: (id) => `{"id":${id},"type":"sec-type"}` })
      server.record({ did: "did:plc:d", collection: "app.bsky.feed.post", rkey: "3" })
      const filters = ["--collections", "app.bsky.feed.post", "--live-only"]
      const cli = yield* periscope.start(["watch", tap, ...filters], environment)
      yield* server.drained
      yield* cli.until(() => cli.lines().length === 1)
      assert.deepStrictEqual(
        cli.lines().map(({ key, source }) => [key, source]),
        [["at://did:plc:d/app.bsky.feed.post/3", tap]]
      )
      yield* cli.until(() => /warn .*A frame of \d+ bytes is of an unknown type/.test(cli.stderr()))
      assert.notInclude(cli.stderr(), "sec-type")
    })
  )

  it.scopedLive("S5 runs the command for each event in order, and acknowledges when it exits with 0", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving()
      const folder = yield* scratch
      const seen = join(folder, "seen")
      const fails = join(folder, "fails")
      const command = `cat >> ${seen}; test -e ${fails} || { touch ${fails}; exit 1; }`
      for (const rkey of ["1", "2", "3"]) server.record({ did: "did:plc:a", rkey })
      const cli = yield* periscope.start(["watch", `t=${tap}`, "--exec", command], environment)
      yield* server.drained
      yield* cli.until(() => cli.lines().length === 3)
      const rkeys = readFileSync(seen, "utf8")
        .trim()
        .split("\n")
        .map((line) => (JSON.parse(line) as { key: string }).key.at(-1))
      // the first one failed once, and held the others back
      assert.deepStrictEqual(rkeys, ["1", "1", "2", "3"])
      assert.deepStrictEqual(server.strayAcks, [])
    })
  )

  // Method: 20 events are there at once, the command takes half a second, and it is stopped while it runs.
  it.scopedLive("S5 lets the running command finish when it is stopped, and begins with no other one", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving({ retryTimeout: 60_000 })
      const seen = join(yield* scratch, "seen")
      for (let n = 1; n <= 20; n++) server.record({ did: "did:plc:a", rkey: String(n), live: false })
      const command = `echo begun >> ${seen}; sleep 0.5`
      const cli = yield* periscope.start(["watch", `t=${tap}`, "--exec", command], environment)
      const begun = (): number => periscope.contents(seen).split("\n").length - 1
      yield* cli.until(() => begun() >= 1)
      const before = begun()
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      // one may have ended between the look and the signal
      assert.isAtMost(begun(), before + 1)
      assert.strictEqual(periscope.parsed(stdout).length, begun())
      assert.strictEqual(server.acks.length, begun())
    })
  )

  it.scopedLive("S5 prints what a killed process has not acknowledged again, under the same id", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving()
      const folder = yield* scratch
      server.record({ did: "did:plc:a", rkey: "1" })
      const args = ["watch", `t=${tap}`, "--exec", `cat >> ${join(folder, "seen")}; kill -9 $PPID`]
      const first = yield* periscope.start(args, environment)
      yield* first.exited
      const second = yield* periscope.start(["watch", `t=${tap}`], environment)
      yield* second.until(() => second.lines().length === 1)
      const before = JSON.parse(readFileSync(join(folder, "seen"), "utf8")) as periscope.Line
      assert.strictEqual(second.lines()[0]!.id, before.id)
      yield* server.drained
    })
  )

  it.scopedLive("connects again when the server comes back, and ends where the password is wrong", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving()
      const cli = yield* periscope.start(
        ["watch", `t=${tap}`, "--max-backoff", "50ms", "--interval", "50ms"],
        environment
      )
      yield* server.until(() => server.connections() === 1)
      yield* server.restart({ downFor: "300 millis" })
      server.record({ did: "did:plc:a", rkey: "1" })
      yield* cli.until(() => cli.lines().length === 1)
      assert.match(cli.stderr(), /warn t: .*Reconnecting in/)
      const refused = ["watch", `t=${tap.replace("//", "//admin:wrong@")}`, "--give-up-after", "1h"]
      const wrong = yield* periscope.run(refused)
      assert.deepStrictEqual([wrong.code, wrong.stdout], [1, ""])
      assert.match(wrong.stderr, /^periscope: t: the upgrade was answered with 401\. Look at the credentials\.\n$/)
      const given = yield* periscope.run([
        "watch",
        `t=tap://127.0.0.1:1`,
        "--give-up-after",
        "100ms",
        "--max-backoff",
        "50ms",
        "--interval",
        "50ms"
      ])
      assert.strictEqual(given.code, 1)
      assert.match(given.stderr, /periscope: t: no connection \(ECONNREFUSED\).*\n$/)
    })
  )

  it.scopedLive("S5 acknowledges nothing with --acks none", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving({ acks: false })
      server.record({ did: "did:plc:a", rkey: "1" })
      server.record({ did: "did:plc:a", rkey: "2" })
      const cli = yield* periscope.start(["watch", tap, "--acks", "none"], environment)
      yield* cli.until(() => cli.lines().length === 2)
      assert.deepStrictEqual(server.acks, [])
    })
  )
})

describe("periscope tap repos", { timeout: 60_000 }, () => {
  it.scopedLive("S10 adds, removes, tells of repositories, and counts", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving()
      const repos = (action: string, args: ReadonlyArray<string> = [], input?: string) =>
        Effect.map(
          periscope.run(["tap", "repos", action, tap, ...args], environment, input),
          ({ code, stderr, stdout }) => [...[code, stdout, stderr]]
        )
      server.setDocument("did:plc:a", { id: "did:plc:a", alsoKnownAs: ["at://a.example"], extra: 1 })
      assert.deepStrictEqual(yield* repos("add", ["did:plc:a", "did:plc:b"]), [0, '{"added":2}\n', ""])
      assert.deepStrictEqual(yield* repos("add", [], "did:plc:c\n\ndid:plc:d\n"), [0, '{"added":2}\n', ""])
      assert.deepStrictEqual(yield* repos("remove", ["did:plc:b"]), [0, '{"removed":1}\n', ""])
      const [code, info, problem] = yield* repos("info", ["did:plc:a", "did:plc:b"])
      assert.strictEqual(code, 1)
      assert.deepInclude(JSON.parse(String(info)), { did: "did:plc:a", state: "pending", records: 0 })
      assert.strictEqual(problem, `periscope: ${tap}: the server does not follow did:plc:b.\n`)
      assert.deepStrictEqual(yield* repos("resolve", ["did:plc:a"]), [
        ...[0, '{"id":"did:plc:a","alsoKnownAs":["at://a.example"],"extra":1}\n', ""]
      ])
      assert.deepStrictEqual(yield* repos("stats"), [
        ...[0, '{"repos":3,"records":0,"outboxBuffer":0,"resyncBuffer":0,"firehose":0}\n', ""]
      ])
    })
  )

  it.scopedLive("says in one sentence what is wrong, without the password", () =>
    Effect.gen(function* () {
      const { server, tap } = yield* serving()
      const wrong = yield* periscope.run(["tap", "repos", "stats", tap], { TAP_ADMIN_PASSWORD: "sec-wrong" })
      assert.deepStrictEqual([wrong.code, wrong.stdout], [1, ""])
      assert.strictEqual(wrong.stderr, `periscope: ${tap}: stats was answered with 401: the password is wrong.\n`)
      const none = yield* periscope.run(["tap", "repos", "add", tap.replace("//", "//admin:sec-ret@"), "alice"])
      assert.strictEqual(none.code, 2)
      assert.match(none.stderr, /^periscope: periscope tap repos add takes DIDs, .*"alice" is none\.\n$/)
      const read = yield* periscope.run(["tap", "repos", "add", tap], environment, "alice\n")
      assert.strictEqual(read.code, 1)
      assert.match(read.stderr, /^periscope: tap:\S+: addRepos takes DIDs, .*"alice" is none\.\n$/)
      const gone = yield* periscope.run(["tap", "repos", "stats", "tap://127.0.0.1:1"])
      assert.match(
        gone.stderr,
        /^periscope: tap:\/\/127\.0\.0\.1:1: stats got no answer \(ECONNREFUSED\); is the server running\?\n$/
      )
      assert.strictEqual(server.repos.size, 0)
      const usage = yield* periscope.run(["tap", "repos", "stats"])
      assert.strictEqual(usage.code, 2)
    })
  )
})
