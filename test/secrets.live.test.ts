/**
 * Goal: no secret leaves by a log, a span, an error, a status, a metric, a checkpoint or the command line (E3).
 *
 * Method: a different secret in every place that can hold one, real servers that answer with everything that goes wrong, and a
 * search through all that comes out. Each secret is proven to have been at work, and each search to be able to find one. What
 * holds secrets by contract is left out: bodies in checkpoints and values, and the query in a change's url and key.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import type * as HttpClient from "@effect/platform/HttpClient"
import { assert, describe, it } from "@effect/vitest"
import type { Change } from "effect-periscope"
import { Checkpoints, WatchMetrics, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Metric from "effect/Metric"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Tracer from "effect/Tracer"
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { inspect } from "node:util"
import * as cliOptions from "../src/cli/options.js"
import * as plan from "../src/cli/plan.js"
import * as periscope from "./cli/periscope.js"
import * as certificates from "./http/certificates.js"
import { startProxy } from "./http/proxy.js"
import * as double from "./http/server.js"

const secrets = {
  token: "sec-token",
  lazyToken: "sec-lazy-token",
  header: "sec-header",
  user: "sec-user",
  password: "sec-password",
  query: "sec-query",
  cookie: "sec-cookie",
  location: "sec-location",
  body: "sec-body",
  proxyUser: "sec-proxy-user",
  proxyPassword: "sec-proxy-password",
  passphrase: certificates.clientKeyPassphrase
} as const

type Secret = keyof typeof secrets

const base64 = (text: string): string => Buffer.from(text).toString("base64")

/** How each secret may show. */
const spellings: Readonly<Record<Secret, ReadonlyArray<string>>> = {
  ...(Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, [value]])) as unknown as Record<
    Secret,
    ReadonlyArray<string>
  >),
  user: [secrets.user, base64(`${secrets.user}:${secrets.password}`)],
  proxyUser: [secrets.proxyUser, base64(`${secrets.proxyUser}:${secrets.proxyPassword}`)],
  // in a checkpoint as base64, at any offset
  body: [secrets.body, ...["", " ", "  "].map((before) => base64(`${before}"${secrets.body}"`).slice(4, -4))]
}

/** The secrets that are in a text. */
const leaks = (text: string, ...allowed: ReadonlyArray<Secret>): ReadonlyArray<Secret> =>
  (Object.keys(secrets) as Array<Secret>).filter(
    (name) => !allowed.includes(name) && spellings[name].some((spelling) => text.includes(spelling))
  )

/** Everything that a value can be shown as. */
const shown = (value: unknown): string => {
  const json = Either.getOrElse(
    Either.try(() => JSON.stringify(value)),
    () => "circular"
  )
  const parts = [String(value), inspect(value, { depth: 20, showHidden: true }), json]
  if (value instanceof Error) parts.push(value.message, value.stack ?? "", shown(value.cause))
  return parts.join("\n")
}

const shownCause = (cause: Cause.Cause<unknown>): string =>
  [shown(cause), Cause.pretty(cause, { renderErrorCause: true }), shown(Cause.squash(cause))].join("\n")

/** What came out, by the way it took. */
class Outlets {
  readonly logs: Array<string> = []
  readonly spans: Array<string> = []
  readonly statuses: Array<string> = []
  readonly errors: Array<string> = []

  readonly logger = Logger.make<unknown, void>((entry) => {
    this.logs.push(shown(entry.message), shown([...entry.annotations]), shown(entry.spans), shownCause(entry.cause))
    this.logs.push(Logger.jsonLogger.log(entry), Logger.logfmtLogger.log(entry))
  })

  readonly tracer = Tracer.make({
    span: (name, parent, context, links, startTime, kind) => {
      const attributes = new Map<string, unknown>()
      const keep = (...values: ReadonlyArray<unknown>) => void this.spans.push(values.map(shown).join("\n"))
      return {
        ...{ _tag: "Span", name, spanId: "1", traceId: "1", parent, context, links, kind, sampled: true, attributes },
        status: { _tag: "Started", startTime },
        attribute: (key, value) => void attributes.set(key, value),
        event: (event, _at, given) => keep(event, given),
        addLinks: (links) => keep(links.map(({ attributes }) => attributes)),
        end: (_at, exit) => keep(name, [...attributes], exit._tag === "Failure" ? shownCause(exit.cause) : "")
      }
    },
    context: (f) => f()
  })

  readonly layer = Layer.mergeAll(
    Logger.replace(Logger.defaultLogger, this.logger),
    Logger.minimumLogLevel(LogLevel.All),
    Layer.setTracer(this.tracer)
  )
}

/** All metrics of the process but this one, which lives on to the next test. */
const metricsBut = (name: string) =>
  Effect.map(Metric.snapshot, (pairs) =>
    pairs
      .filter(({ metricKey }) => metricKey.name !== name)
      .map(({ metricKey, metricState }) => shown([metricKey.name, metricKey.tags, metricState]))
      .join("\n")
  )

/** Names and bytes of all files in a folder. */
const contentsOf = (folder: string): string =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => `${folder}/${name}`)
    .map((file) => (statSync(file).isFile() ? `${file}\n${readFileSync(file, "latin1")}` : file))
    .join("\n")

const content = JSON.stringify({ n: secrets.body })

/** All that a server does to a watch: every kind of failure, with secrets in what it sends. */
const startServers = Effect.gen(function* () {
  const [server, other] = yield* Effect.all([double.startServer, double.startServer])
  const headers = { "set-cookie": `session=${secrets.cookie}`, "www-authenticate": `Bearer error="${secrets.cookie}"` }
  const script: ReadonlyArray<double.Behaviour> = [
    double.content(content, { etag: '"1"', headers }),
    double.content(content, { etag: '"1"', headers }),
    double.status(500, headers, secrets.body),
    double.status(401, headers, secrets.body),
    double.status(401, headers, secrets.body),
    double.status(403, headers, secrets.body),
    double.status(418, headers, secrets.body),
    double.status(503, { ...headers, "retry-after": "0" }, secrets.body),
    double.truncated(content),
    double.truncatedChunked(content),
    double.gzipped(content.slice(1)),
    double.content(content, { headers: { "content-encoding": "gzip" } }),
    double.content(content, { headers: { "content-encoding": "rot13" } }),
    double.endless,
    double.hang,
    double.hangMidBody,
    double.redirect(`${other.origin}/moved?signature=${secrets.location}`),
    double.redirect(`ftp://${secrets.location}@elsewhere/`),
    double.redirect(`http://${secrets.location}:${secrets.location}@127.0.0.1:1/?${secrets.location}`),
    double.redirect(`http://${secrets.location}.invalid/`),
    double.redirect(`/doc?signature=${secrets.location}`),
    double.redirect(`/loop?signature=${secrets.location}`),
    (_request, response) => void response.socket?.end(`HTTP/1.1 ${secrets.cookie}\r\n\r\n`),
    double.status(404, headers, secrets.body),
    double.content(`{"n":1,"${secrets.body}"`),
    double.content(`{"n":"${secrets.body} again"}`)
  ]
  other.answer(double.content(content, { etag: '"moved"', headers }))
  server.route("/loop", double.redirect(`/loop?signature=${secrets.location}`))
  return { server, other, script }
})

const clients: ReadonlyArray<readonly [name: string, layer: Layer.Layer<HttpClient.HttpClient>]> = [
  ["NodeClient.layer", NodeClient.layer({ proxy: "none" })],
  ["FetchHttpClient.layer", FetchHttpClient.layer],
  ["NodeHttpClient.layer", NodeHttpClient.layer]
]

const options = { interval: "1 millis", maxBackoff: "5 millis", maxRetryAfter: "5 millis" } as const

const textOf = (change: Change.Change<unknown>): string =>
  change._tag !== "Removed" && change.value instanceof HttpSource.HttpItem ? change.value.text : ""

/** Watches to the end of a script, with a checkpoint, and keeps what comes out. */
const watchScript = <A, E>(
  outlets: Outlets,
  source: Parameters<typeof Watcher.make<A, E, HttpClient.HttpClient>>[0],
  checkpoint: string,
  isDone: () => boolean
): Effect.Effect<ReadonlyArray<string>, never, HttpClient.HttpClient | Checkpoints.Checkpoints> =>
  Effect.gen(function* () {
    const values: Array<string> = []
    const watcher = yield* Watcher.make(source, { ...options, checkpoint })
    outlets.statuses.push(shown(source), shown(watcher), watcher.name)
    yield* Effect.forkScoped(
      Stream.runForEach(watcher.status.changes, (status) =>
        Effect.sync(() => {
          outlets.statuses.push(shown(status))
          const { phase } = status
          if (phase._tag === "Backoff") outlets.errors.push(shownCause(phase.error))
        })
      )
    )
    yield* Effect.forkScoped(
      watcher.runForEach((change) => Effect.sync(() => values.push(shown(change), textOf(change))))
    )
    yield* periscope.eventually(isDone)
    return values
  }).pipe(Effect.scoped)

describe("E3 secrets", () => {
  for (const [name, client] of clients) {
    it.scopedLive(
      `E3 of a watch over ${name} stay in its requests`,
      () =>
        Effect.gen(function* () {
          const { other, script, server } = yield* startServers
          const outlets = new Outlets()
          const state = yield* periscope.folder
          const url = (path: string) =>
            `http://${secrets.user}:${secrets.password}@${new URL(server.origin).host}/${path}?signature=${secrets.query}`
          const common = {
            headers: { "x-key": Redacted.make(secrets.header) },
            maxBodyBytes: 100_000,
            timeout: "100 millis"
          } as const
          const sources = {
            basic: HttpSource.make({ ...common, url: url("basic") }),
            bearer: HttpSource.make({ ...common, url: url("bearer"), bearerToken: Redacted.make(secrets.token) }),
            typed: HttpSource.make({
              ...common,
              url: url("typed"),
              bearerToken: Effect.succeed(Redacted.make(secrets.lazyToken)),
              schema: Schema.Struct({ n: Schema.NumberFromString })
            })
          }
          const program = Effect.gen(function* () {
            const values: Array<string> = []
            for (const [path, source] of Object.entries(sources)) {
              server.route(`/${path}`, ...script)
              const last = script.at(-1)!
              let ends = 0
              server.route(`/${path}`, ...script.slice(0, -1), (request, response) => {
                ends++
                last(request, response)
              })
              values.push(...(yield* watchScript<unknown, unknown>(outlets, source, path, () => ends > 3)))
            }
            outlets.statuses.push(shown(yield* WatchMetrics.watchers))
            // the errors of polls as they are, and what construction says
            const unreachable = HttpSource.make({ ...common, url: url("doc").replace(/:\d+\//, ":1/") })
            outlets.errors.push(shownCause(Cause.fail(yield* Effect.flip(Watcher.once(unreachable)))))
            const broken = HttpSource.make({
              url: url("doc"),
              bearerToken: Effect.succeed(Redacted.make(`${secrets.token}\n${secrets.token}`))
            })
            outlets.errors.push(shownCause(Cause.fail(yield* Effect.flip(Watcher.once(broken)))))
            const wrong: ReadonlyArray<() => unknown> = [
              () => HttpSource.make({ url: `http://${secrets.user}:${secrets.password}@:99999/${secrets.query}` }),
              () => HttpSource.make({ url: `${secrets.user}:${secrets.password}@host` }),
              () => HttpSource.make({ url: url("doc"), headers: { "x-key": Redacted.make(`${secrets.header}\n`) } }),
              () => HttpSource.make({ url: url("doc"), maxBodyBytes: 0 })
            ]
            for (const make of wrong) {
              const error = yield* Effect.flip(Effect.try(make))
              outlets.errors.push(shown(error))
            }
            return values
          })
          const values = yield* program.pipe(
            Effect.withSpan("test"),
            Effect.provide([
              client,
              Layer.provide(Checkpoints.layerFileSystem({ directory: state }), NodeContext.layer),
              outlets.layer
            ])
          )

          const { errors, logs, spans, statuses } = outlets
          const out = { errors, logs, spans, statuses }
          // the clients' own spans and fibers would say the whole address
          assert.notInclude(spans.join("\n"), "http.client")
          assert.notInclude(logs.join("\n"), "unhandled error")
          for (const [outlet, entries] of Object.entries(out)) {
            assert.isAbove(entries.length, 20, outlet)
            assert.deepStrictEqual(leaks(entries.join("\n")), [], outlet)
          }
          assert.deepStrictEqual(leaks(yield* metricsBut("planted")), [])
          assert.deepStrictEqual(leaks(contentsOf(state), "body"), [])

          // all of it was at work
          const reasons = [
            "Network",
            "Timeout",
            "Status",
            "Unauthorized",
            "Truncated",
            "TooLarge",
            "Decode",
            "Redirect"
          ]
          for (const reason of [...reasons, "InvalidRequest"]) assert.include(errors.join("\n"), reason)
          assert.include(spans.join("\n"), "HttpSource.poll")
          assert.include(spans.join("\n"), "http.response.status_code")
          const requests = JSON.stringify(server.requests)
          assert.deepStrictEqual(leaks(requests), ["token", "lazyToken", "header", "user", "query", "location"])
          assert.include(requests, `Basic ${base64(`${secrets.user}:${secrets.password}`)}`)
          assert.deepStrictEqual(leaks(JSON.stringify(other.requests)), ["location"])
          assert.deepStrictEqual(leaks(values.join("\n")), ["query", "body"])
          assert.deepStrictEqual(leaks(contentsOf(state)), ["body"])
          const answer = yield* Effect.promise(() => fetch(other.url()))
          assert.deepStrictEqual(leaks(answer.headers.getSetCookie().join("\n")), ["cookie"])

          // and each search finds what is there
          const planted = Redacted.value(Redacted.make(secrets.token))
          yield* Effect.logTrace("planted", Cause.fail({ planted })).pipe(
            Effect.withSpan("planted", { attributes: { planted } }),
            Effect.provide(outlets.layer)
          )
          yield* Metric.update(Metric.tagged(Metric.counter("planted"), "planted", planted), 1)
          writeFileSync(`${state}/${planted}`, planted)
          for (const text of [logs.join("\n"), spans.join("\n"), yield* metricsBut(""), contentsOf(state)]) {
            assert.include(leaks(text), "token")
          }
          assert.deepStrictEqual(leaks(shown(Cause.fail(new Error("", { cause: planted })))), ["token"])
        }),
      60_000
    )
  }

  it.scopedLive(
    "E3 of a collection and its pages stay in their requests",
    () =>
      Effect.gen(function* () {
        const [server, other] = yield* Effect.all([double.startServer, double.startServer])
        const outlets = new Outlets()
        const state = yield* periscope.folder
        const page = (id: number, next?: string) =>
          double.content(JSON.stringify([{ id, text: secrets.body }]), {
            headers: next === undefined ? {} : { link: `<${next}>; rel="next"` }
          })
        const signed = `/page?signature=${secrets.location}`
        server.route("/list", page(1, signed))
        let ends = 0
        server.route(
          "/page",
          page(2, `${other.origin}${signed}`),
          double.status(500, {}, secrets.body),
          double.status(403, {}, secrets.body),
          double.truncated(secrets.body),
          page(2, signed),
          page(2, `/list?signature=${secrets.location}`),
          page(2, `ftp://${secrets.location}@elsewhere/`),
          page(2, `http://${secrets.location}@:99999/`),
          double.content(JSON.stringify([{ id: 3, text: secrets.body }]), {
            headers: { link: `<${secrets.location}` }
          }),
          double.content(JSON.stringify([{ id: secrets.body }])),
          double.redirect(signed),
          (request, response) => {
            ends++
            page(2)(request, response)
          }
        )
        other.answer(double.status(500, {}, secrets.body))
        const source = HttpSource.collection({
          url: `http://${secrets.user}:${secrets.password}@${new URL(server.origin).host}/list?signature=${secrets.query}`,
          bearerToken: Redacted.make(secrets.token),
          item: Schema.Struct({ id: Schema.Number, text: Schema.String }),
          key: ({ id }) => String(id)
        })
        yield* watchScript<unknown, unknown>(outlets, source, "list", () => ends > 3).pipe(
          Effect.withSpan("test"),
          Effect.provide([
            NodeClient.layer({ proxy: "none" }),
            Layer.provide(Checkpoints.layerFileSystem({ directory: state }), NodeContext.layer),
            outlets.layer
          ])
        )
        const { errors, logs, spans, statuses } = outlets
        for (const [outlet, entries] of Object.entries({ errors, logs, spans, statuses })) {
          assert.isAbove(entries.length, 8, outlet)
          assert.deepStrictEqual(leaks(entries.join("\n")), [], outlet)
        }
        for (const tag of ["HttpSourceError", "ListingError"]) assert.include(errors.join("\n"), tag)
        assert.deepStrictEqual(leaks(contentsOf(state)), ["body"])
        assert.deepStrictEqual(leaks(JSON.stringify(server.requests)), ["token", "query", "location"])
        assert.deepStrictEqual(leaks(JSON.stringify(other.requests)), ["location"])
      }),
    60_000
  )

  it.scopedLive("E3 of a proxy and of a client's key stay in the connection", () =>
    Effect.gen(function* () {
      const outlets = new Outlets()
      const proxy = yield* startProxy
      const plain = yield* double.startServer
      const tls = yield* double.startTlsServer({
        ...{ cert: certificates.serverCert, key: certificates.serverKey, ca: certificates.ca },
        ...{ requestCert: true, rejectUnauthorized: true }
      })
      const withUser = (url: string) => new URL(url.replace("//", `//${secrets.proxyUser}:${secrets.proxyPassword}@`))
      const certificate = { ca: certificates.ca, cert: certificates.clientCert, key: certificates.clientKeyEncrypted }
      const passphrase = Redacted.make(secrets.passphrase)
      for (const server of [plain, tls]) server.answer(double.content("one"))
      const look = (server: double.TestServer, client: NodeClient.Options) =>
        Effect.gen(function* () {
          const layer = NodeClient.layer(client)
          outlets.statuses.push(shown(layer))
          const watcher = yield* Watcher.make(HttpSource.make({ url: server.url() }), options)
          yield* Effect.forkScoped(watcher.runForEach(() => Effect.void))
          const first = yield* watcher.status.changes.pipe(
            Stream.tap((status) => Effect.sync(() => outlets.statuses.push(shown(status)))),
            Stream.filter(
              ({ consecutiveFailures, lastSuccess }) => consecutiveFailures > 2 || lastSuccess._tag === "Some"
            ),
            Stream.runHead
          )
          return first._tag === "Some" ? first.value.phase._tag : "None"
        }).pipe(Effect.scoped, Effect.provide([NodeClient.layer(client), outlets.layer]))

      const proxied = { proxy: Redacted.make(withUser(proxy.url).href) }
      assert.strictEqual(yield* look(plain, { proxy: withUser(proxy.url) }), "Live")
      assert.strictEqual(yield* look(tls, { ...certificate, passphrase, ...proxied }), "Live")
      assert.strictEqual(yield* look(tls, { ...certificate, passphrase, proxy: "none" }), "Live")
      const [first] = proxy.requests
      assert.strictEqual(first, `Basic ${base64(`${secrets.proxyUser}:${secrets.proxyPassword}`)}`)
      assert.strictEqual(new Set(proxy.requests).size, 1)
      assert.isAtLeast(tls.requests.length, 2)

      const wrong = Redacted.make(`${secrets.passphrase} but wrong`)
      assert.strictEqual(yield* look(tls, { ...certificate, passphrase: wrong, proxy: "none" }), "Backoff")
      assert.strictEqual(yield* look(plain, { proxy: withUser("http://127.0.0.1:1") }), "Backoff")
      proxy.refuse()
      assert.strictEqual(yield* look(plain, proxied), "Backoff")
      assert.strictEqual(yield* look(tls, { ...certificate, passphrase, ...proxied }), "Backoff")

      const { logs, spans, statuses } = outlets
      for (const [outlet, entries] of Object.entries({ logs, spans, statuses })) {
        assert.isAbove(entries.length, 5, outlet)
        assert.deepStrictEqual(leaks(entries.join("\n")), [], outlet)
      }
    })
  )

  it.scopedLive(
    "E3 of the command line go where they belong, and are on neither output",
    () =>
      Effect.gen(function* () {
        const { other, script, server } = yield* startServers
        const proxy = yield* startProxy
        const [state, folder] = yield* Effect.all([periscope.folder, periscope.folder])
        const host = new URL(server.origin).host
        let ends = 0
        const end: double.Behaviour = (request, response) => {
          ends++
          double.content(content)(request, response)
        }
        const environment = {
          TOKEN: secrets.token,
          HTTP_PROXY: `http://${secrets.proxyUser}:${secrets.proxyPassword}@${new URL(proxy.url).host}`
        }
        const sources = [
          `http://${secrets.user}:${secrets.password}@${host}/basic?signature=${secrets.query}`,
          `bearer=http://${host}/bearer?signature=${secrets.query}`
        ]
        const args = [
          ...sources,
          ...[
            "--state",
            state,
            "--interval",
            "2ms",
            "--max-backoff",
            "5ms",
            "--timeout",
            "200ms",
            "--max-body",
            "100KiB"
          ],
          ...[
            "--log-level",
            "debug",
            "--header",
            `bearer:X-Key: ${secrets.header}`,
            "--bearer-token-env",
            "bearer=TOKEN"
          ]
        ]
        const outputs: Array<string> = []
        for (const extra of [
          ["--exec", `env > ${folder}/env`],
          ["--format", "pretty"]
        ]) {
          ends = 0
          for (const path of ["/basic", "/bearer"]) server.route(path, ...script, end)
          const cli = yield* periscope.start(["watch", ...args, ...extra], environment)
          yield* cli.until(() => ends > 6)
          cli.kill("SIGTERM")
          const { code, stderr, stdout } = yield* cli.ended
          assert.strictEqual(code, 0)
          assert.deepStrictEqual(leaks(stderr), [])
          assert.match(stderr, /answered 500|answered 403/)
          // the values, and keys with their query, are what it prints by contract
          assert.deepStrictEqual(leaks(stdout, "query", "body"), [])
          outputs.push(stderr, stdout)
        }
        assert.include(leaks(outputs.join("\n")), "query")
        assert.deepStrictEqual(leaks(contentsOf(state)), ["body"])
        // a command gets the environment that we were given, and nothing from us
        const own = periscope
          .contents(`${folder}/env`)
          .split("\n")
          .filter((line) => !Object.entries(environment).some(([name, value]) => line === `${name}=${value}`))
        assert.include(own.join("\n"), "PATH=")
        assert.deepStrictEqual(leaks(own.join("\n")), [])
        assert.deepStrictEqual(leaks(JSON.stringify(server.requests)), ["token", "header", "user", "query", "location"])
        assert.deepStrictEqual(leaks(JSON.stringify(other.requests)), ["location"])
        assert.deepStrictEqual(leaks(proxy.requests.join("\n")), ["proxyUser"])

        server.route("/basic", double.status(403))
        const once = yield* periscope.run(["once", ...args.slice(0, 1), "--log-level", "debug"], environment)
        assert.strictEqual(once.code, 1)
        assert.include(once.stderr, "answered 403")
        assert.deepStrictEqual(leaks(once.stderr + once.stdout), [])
      }),
    60_000
  )

  it.live("E3 of the command line are not repeated where they were put wrongly", () =>
    Effect.gen(function* () {
      const { header, password, query, token, user } = secrets
      const good = `https://${user}:${password}@host.invalid/x?signature=${query}`
      const usage: ReadonlyArray<ReadonlyArray<string>> = [
        ["watch", `http://${user}:${password}@`],
        ["watch", `http://${user}:${password}@host:99999/?${query}`],
        ["watch", `http://${user}:${password}@ho st/?${query}`],
        ["watch", `${user}:${password}@host/path?${query}`],
        ["watch", `${user}@host?${query}`],
        ["watch", `${user}:${password}`],
        ["watch", `name=${user}:${password}@host`],
        ["watch", `htp://${user}:${password}@host/?${query}`],
        ["watch", `s3://${user}:${password}@bucket/?${query}`],
        ["watch", `postgres://${user}:${password}@host/db?${query}`],
        ["watch", `./folder?${query}`],
        ["watch", good, good],
        ["watch", good, `https://${user}:${password}@other.invalid/`, "--header", `Authorization: ${header}`],
        ["watch", good, "--header", `Authorization ${header}`],
        ["watch", good, "--header", `X-Key: ${header}\nX-Other: ${header}`],
        ["watch", good, "--header", `nobody:X-Key: ${header}`],
        ["watch", good, "--header", `X-Key: ${header}`, "--header", `x-key: ${header}`],
        ["watch", good, "--bearer-token-env", token],
        ["watch", good, "--bearer-token-env", token.replaceAll("-", "_")],
        ["watch", good, "--bearer-token-env", "HAS_BLANK"],
        ["watch", good, "--interval", "soon"],
        ["watch", good, "--unknown"],
        ["wach", good],
        [good],
        [`${user}:${password}@host/?${query}`]
      ]
      for (const args of usage) {
        const sentence = Either.flip(
          Either.flatMap(cliOptions.parse(args), (given) => plan.make(given, { HAS_BLANK: `${token} ${token}` }))
        )
        assert.deepStrictEqual(leaks(Either.getOrThrow(sentence).replaceAll("_", "-")), [], args.join(" "))
      }
      const wrong = yield* periscope.run(usage[1]!)
      assert.strictEqual(wrong.code, 2)
      assert.match(wrong.stderr, /^periscope: a source is not a valid address; [^\n]+\n$/)
      const help = yield* periscope.run(["watch", good, "--header", `X-Key: ${header}`, "--help"])
      assert.deepStrictEqual([help.code, leaks(help.stdout + help.stderr)], [0, []])
    })
  )
})
