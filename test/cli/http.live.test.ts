import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { readdirSync, readFileSync, statSync } from "node:fs"
import * as double from "../http/server.js"
import type { Line } from "./periscope.js"
import * as periscope from "./periscope.js"

const json = (n: number) => JSON.stringify({ n })

/** `Modified 2 was 1`: kind and numbers of a change. */
const brief = ({ previous, type, value }: Line): string => {
  const n = (item: Line["value"]) => (item?.["json"] as { readonly n: number } | undefined)?.n
  return [type, n(value), previous === undefined ? undefined : `was ${n(previous)}`]
    .filter((x) => x !== undefined)
    .join(" ")
}

const fast = ["--interval", "20ms", "--max-backoff", "50ms"]

describe("periscope watch", () => {
  it.scopedLive("prints the changes of a document through all that a server does, and asks with its validators", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const rotating = double.rotatingWeakEtags(json(2))
      server.route("/moved", double.content(json(3), { etag: '"moved"' }))
      const script: ReadonlyArray<double.Behaviour> = [
        double.status(404),
        double.content(json(1), { etag: '"1"' }),
        double.content(json(1), { etag: '"1"' }), // 304
        double.status(500),
        double.status(500),
        double.content(json(2)),
        double.content(json(2)), // the same bytes, no validators
        rotating,
        rotating,
        double.status(204),
        double.truncated(json(7)),
        double.truncatedChunked(json(7)),
        double.content(JSON.stringify({ n: "x".repeat(2000) })),
        double.endless,
        double.hang,
        double.hangMidBody,
        double.redirect("/moved"),
        double.status(404),
        double.status(410),
        double.content(json(4), { etag: '"4"' })
      ]
      server.answer(...script)
      const cli = yield* periscope.start([
        "watch",
        `doc=${server.url()}`,
        ...fast,
        "--max-body",
        "1KiB",
        "--timeout",
        "300ms"
      ])
      yield* cli.until(() => server.requests.length > script.length + 3)
      cli.kill("SIGTERM")
      const { code, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(periscope.parsed(stdout).map(brief), [
        "Added 1",
        "Modified 2 was 1",
        "Modified 3 was 2",
        "Removed was 3",
        "Added 4"
      ])
      const asked = server.requests
        .filter(({ url }) => url === "/doc")
        .slice(0, script.length + 2)
        .map(({ headers }) => headers["if-none-match"] ?? "-")
      assert.deepStrictEqual(asked, [
        "-", // 404
        "-", // 1
        '"1"', // 304
        '"1"', // 500
        '"1"', // 500
        '"1"', // 2
        "-", // the same
        "-", // W/"1"
        'W/"1"', // W/"2"
        'W/"2"', // 204
        'W/"2"', // truncated
        'W/"2"',
        'W/"2"', // too large
        'W/"2"',
        'W/"2"', // hangs
        'W/"2"',
        'W/"2"', // redirect
        "-", // 404: the validator is that of /moved
        "-", // 410
        "-", // 4
        '"4"',
        '"4"'
      ])
    })
  )

  it.scopedLive("prints a line exactly as the contract says", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const lastModified = "Wed, 21 Oct 2015 07:28:00 GMT"
      const big = '{ "id": 12345678901234567890,\n "text": "a \\" b" }'
      server.answer(
        double.content(big, { etag: '"a"', lastModified }),
        double.content("plain", { headers: { "content-type": "text/plain" } }),
        double.content("{broken"),
        double.content(new Uint8Array([0xff, 0x00]), { headers: { "content-type": "application/json" } }),
        double.status(410)
      )
      const url = server.url("/doc?key=1")
      const cli = yield* periscope.start(["watch", url, ...fast])
      yield* cli.until(() => cli.lines().length === 5)
      const name = server.url()
      const [first, ...others] = cli.stdout().split("\n")
      const { id, observedAt } = JSON.parse(first!) as Line
      assert.match(observedAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      assert.strictEqual(
        first,
        `{"id":${JSON.stringify(id)},"type":"Added","source":"${name}","key":"${url}","value":{"url":"${url}","status":200,` +
          `"etag":"\\"a\\"","lastModified":"${lastModified}","contentType":"application/json",` +
          `"json":{"id":12345678901234567890,"text":"a \\" b"}},"observedAt":"${observedAt}"}`
      )
      const rest = others.slice(0, 4).map((line) => JSON.parse(line) as Line)
      const common = { url, status: 200 }
      assert.deepStrictEqual(
        rest.map(({ previous: _, type, value }) => ({ type, value })),
        [
          { type: "Modified", value: { ...common, contentType: "text/plain", body: "plain" } },
          { type: "Modified", value: { ...common, contentType: "application/json", body: "{broken" } },
          { type: "Modified", value: { ...common, contentType: "application/json", bodyBase64: "/wA=" } },
          { type: "Removed", value: undefined }
        ]
      )
      assert.deepStrictEqual(
        rest.map((line) => Object.keys(line)),
        [...Array.from({ length: 3 }, () => ["id", "type", "source", "key", "value", "previous", "observedAt"])].concat(
          [["id", "type", "source", "key", "previous", "observedAt"]]
        )
      )
      assert.deepStrictEqual(rest[3]!.previous, rest[2]!.value)
      assert.strictEqual(new Set(cli.lines().map(({ id }) => id)).size, 5)
    })
  )

  it.scopedLive("waits as long as Retry-After asks", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const times: Array<number> = []
      const timed =
        (behaviour: double.Behaviour): double.Behaviour =>
        (request, response) => {
          times.push(Date.now())
          behaviour(request, response)
        }
      server.answer(timed(double.status(503, { "retry-after": "1" })), timed(double.content(json(1))))
      const cli = yield* periscope.start(["watch", server.url(), ...fast])
      yield* cli.until(() => cli.lines().length === 1)
      assert.isAtLeast(times[1]! - times[0]!, 990)
      assert.isBelow(times[1]! - times[0]!, 2000)
    })
  )

  it.scopedLive("tries a source that cannot be reached again", () =>
    Effect.gen(function* () {
      const port = yield* Effect.scoped(Effect.map(double.startServer, ({ origin }) => origin))
      const cli = yield* periscope.start(["watch", port, ...fast])
      yield* cli.until(() => cli.stderr().includes("attempt 3"))
      cli.kill("SIGINT")
      const { code, stdout } = yield* cli.ended
      assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: "" })
    })
  )

  it.scopedLive("gives a source up after its outage: attempts at 0, 2 and 6 intervals", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      const times: Array<number> = []
      server.answer((request, response) => {
        times.push(Date.now())
        double.status(500)(request, response)
      })
      const { code, stderr, stdout } = yield* periscope.run([
        ...["watch", `doc=${server.url()}`, "--interval", "200ms", "--give-up-after", "1s", "--log-level", "none"]
      ])
      assert.strictEqual(code, 1)
      assert.strictEqual(stdout, "")
      assert.strictEqual(
        stderr,
        `periscope: doc: ${server.url()} answered 500; the server failed; given up after 1 s of failed polls.\n`
      )
      const after = times.map((time) => Math.round((time - times[0]!) / 100))
      assert.strictEqual(times.length, 3)
      assert.closeTo(after[1]!, 4, 1)
      assert.closeTo(after[2]!, 12, 2)
    })
  )

  it.scopedLive("goes on with the other sources when one has failed for good", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.route("/bad", double.status(500))
      server.route("/good", double.content(json(1)))
      const cli = yield* periscope.start([
        ...["watch", `bad=${server.url("/bad")}`, `good=${server.url("/good")}`],
        ...["--interval", "20ms", "--give-up-after", "50ms"]
      ])
      yield* cli.until(() => cli.stderr().includes("given up"))
      server.route("/good", double.content(json(2)))
      yield* cli.until(() => cli.lines().length === 2)
      const bad = server.requests.filter(({ url }) => url === "/bad").length
      yield* Effect.sleep(200)
      assert.strictEqual(server.requests.filter(({ url }) => url === "/bad").length, bad)
      cli.kill("SIGTERM")
      const { code, stderr } = yield* cli.ended
      assert.strictEqual(code, 1)
      assert.strictEqual(stderr.match(/given up/g)?.length, 1)
      assert.deepStrictEqual(cli.lines().map(brief), ["Added 1", "Modified 2 was 1"])
    })
  )

  it.scopedLive("takes what is there as known with --initial suppress", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.content(json(1)), double.content(json(1)), double.content(json(2)))
      const cli = yield* periscope.start(["watch", server.url(), ...fast, "--initial", "suppress"])
      yield* cli.until(() => cli.lines().length === 1)
      assert.deepStrictEqual(cli.lines().map(brief), ["Modified 2 was 1"])
    })
  )

  it.scopedLive("ends with 0 when its reader has gone", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      let n = 0
      server.answer((request, response) => double.content(json(++n))(request, response))
      const cli = yield* periscope.start(["watch", server.url(), ...fast])
      yield* cli.until(() => cli.stdout().includes("\n"))
      cli.closeStdout()
      const { code, stderr } = yield* cli.ended
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
    })
  )

  it.scopedLive("sends credentials where they belong and shows them nowhere", () =>
    Effect.gen(function* () {
      const [one, two] = yield* Effect.all([double.startServer, double.startServer])
      const [bearer, header, password, query, old] = ["sec-bearer", "sec-header", "sec-pass", "sec-query", "sec-old"]
      for (const server of [one, two]) {
        server.answer(double.status(503), double.content(json(1)), double.hangMidBody, double.content(json(2)))
      }
      const withUser = two.url(`/two?key=${query}`).replace("//", `//me:${password}@`)
      const state = yield* periscope.folder
      const cli = yield* periscope.start(
        [
          ...[
            "watch",
            `one=${one.url(`/one?key=${query}`)}`,
            `two=${withUser}`,
            "--state",
            state,
            "--log-level",
            "debug"
          ],
          ...["--interval", "20ms", "--timeout", "200ms", "--exec", "cat >/dev/null; exit 0"],
          ...["--header", `one:X-Key: ${header}`, "--bearer-token-env", "one=SEC_TOKEN"]
        ],
        { SEC_TOKEN: bearer, OTHER: old }
      )
      yield* cli.until(() => cli.lines().length === 4)
      cli.kill("SIGTERM")
      const { stderr, stdout } = yield* cli.ended
      assert.strictEqual(one.requests[0]!.headers.authorization, `Bearer ${bearer}`)
      assert.strictEqual(one.requests[0]!.headers["x-key"], header)
      assert.strictEqual(two.requests[0]!.headers["x-key"], undefined)
      assert.strictEqual(
        two.requests[0]!.headers.authorization,
        `Basic ${Buffer.from(`me:${password}`).toString("base64")}`
      )
      assert.strictEqual(two.requests[0]!.url, `/two?key=${query}`)
      const stored = readdirSync(state, { recursive: true, encoding: "utf8" })
        .map((name) => `${state}/${name}`)
        .filter((file) => statSync(file).isFile())
        .map((file) => `${file}\n${readFileSync(file, "latin1")}`)
        .join("\n")
      assert.include(stderr, "answered 503")
      assert.include(stored, "checkpoint")
      assert.notMatch(stderr + stored, /sec-/)
      // the key and the url of a line are the address without user info, by contract
      assert.notMatch(stdout.replaceAll(`?key=${query}`, ""), /sec-/)
    })
  )
})

describe("periscope once", () => {
  it.scopedLive("observes each source once, tells a failed one by its exit code, and does not linger", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.content(json(1), { etag: '"1"' }))
      server.route("/bad", double.status(404), double.status(500))
      const state = yield* periscope.folder
      const once = periscope.run(["once", `a=${server.url()}`, `b=${server.url("/bad")}`, "--state", state])
      const first = yield* once
      assert.deepStrictEqual([first.code, first.stderr], [0, ""])
      assert.deepStrictEqual(periscope.parsed(first.stdout).map(brief), ["Added 1"])
      const second = yield* once
      assert.deepStrictEqual(
        [second.code, second.stdout, second.stderr],
        [1, "", `periscope: b: ${server.url("/bad")} answered 500; the server failed.\n`]
      )
      assert.strictEqual(server.requests.length, 4)
      assert.deepStrictEqual(
        server.requests.filter(({ url }) => url === "/doc").map(({ headers }) => headers["if-none-match"]),
        [undefined, '"1"']
      )
      assert.isBelow(second.millis, 5000)
    })
  )

  it.scopedLive("stops at a signal while a server keeps it waiting", () =>
    Effect.gen(function* () {
      const server = yield* double.startServer
      server.answer(double.hang)
      const cli = yield* periscope.start(["once", server.url()])
      yield* cli.until(() => server.requests.length === 1)
      const ended = yield* Effect.fork(cli.ended)
      cli.kill("SIGINT")
      const { code, stdout } = yield* Fiber.join(ended)
      assert.deepStrictEqual([code, stdout], [0, ""])
      assert.strictEqual(server.openSockets(), 0)
    })
  )
})
