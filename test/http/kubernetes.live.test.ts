/**
 * Goal: a watch of one Kubernetes object lives through what a cluster does to it, and reports each change once.
 *
 * Method: a server that answers like the API server (TLS from the cluster's own CA, no ETag, errors as `Status` objects) and
 * takes only the newest token; the token lies in a file that is replaced like the kubelet does it. Everything that the watch
 * lets out is kept and searched for tokens.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as FileSystem from "@effect/platform/FileSystem"
import { assert, describe, it } from "@effect/vitest"
import type { Change, WatchStatus } from "effect-periscope"
import { Checkpoints, Watcher } from "effect-periscope"
import { HttpSource } from "effect-periscope/http"
import * as NodeClient from "effect-periscope/http/NodeClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { mkdtempSync, readdirSync, readFileSync, renameSync, statSync, symlinkSync, writeFileSync } from "node:fs"
import type { ServerOptions } from "node:https"
import { inspect } from "node:util"
import * as periscope from "../cli/periscope.js"
import * as certificates from "./certificates.js"
import * as double from "./server.js"

const path = "/api/v1/namespaces/app/configmaps/flags"

const ConfigMap = Schema.Struct({
  metadata: Schema.Struct({ resourceVersion: Schema.String }),
  data: Schema.Record({ key: Schema.String, value: Schema.String })
})

/** An API server with one ConfigMap, or none. */
interface Cluster {
  readonly server: double.TestServer
  /** The statuses of its answers; the same ones in a row count once. */
  readonly answered: Array<number>
  /** How often it said 401. */
  refusals: number
  token: string
  isForbidden: boolean
  isHanging: boolean
  /** What happens just before it says 401. */
  onRefusal: (refusals: number) => void
  readonly apply: (color: string) => void
  readonly remove: () => void
}

const tls: ServerOptions = { cert: certificates.serverCert, key: certificates.serverKey }

const startCluster = (options: ServerOptions = tls): Effect.Effect<Cluster, never, Scope.Scope> =>
  Effect.map(double.startTlsServer(options), (server) => {
    let object: unknown
    let version = 0
    const cluster: Cluster = {
      server,
      answered: [],
      refusals: 0,
      token: "token-1",
      isForbidden: false,
      isHanging: false,
      onRefusal: () => {},
      apply: (color) => {
        object = { kind: "ConfigMap", metadata: { name: "flags", resourceVersion: `${++version}` }, data: { color } }
      },
      remove: () => void (object = undefined)
    }
    const failure = (code: number, reason: string) =>
      [code, { kind: "Status", status: "Failure", reason, code }] as const
    const answer = (authorization: string | undefined): readonly [code: number, body: unknown] => {
      if (authorization !== `Bearer ${cluster.token}`) {
        cluster.onRefusal(++cluster.refusals)
        return failure(401, "Unauthorized")
      }
      if (cluster.isForbidden) return failure(403, "Forbidden")
      return object === undefined ? failure(404, "NotFound") : [200, object]
    }
    server.route(path, (request, response) => {
      if (cluster.isHanging) return
      const [code, body] = answer(request.headers.authorization)
      if (cluster.answered.at(-1) !== code) cluster.answered.push(code)
      const headers = { "content-type": "application/json", "cache-control": "no-cache, private" }
      response.writeHead(code, headers).end(JSON.stringify(body))
    })
    return cluster
  })

/** Puts a token where the kubelet mounts it: behind a symbolic link to a folder that is replaced as a whole. */
const mountToken = (mount: string, token: string): void => {
  const version = mkdtempSync(`${mount}/..2120`)
  // with a line break, as an editor would leave it
  writeFileSync(`${version}/token`, `${token}\n`)
  symlinkSync(version, `${mount}/..next`)
  renameSync(`${mount}/..next`, `${mount}/..data`)
  if (!readdirSync(mount).includes("token")) symlinkSync("..data/token", `${mount}/token`)
}

const flagsOf = (cluster: Cluster, mount: string, url = cluster.server.url(path)) =>
  HttpSource.make({
    url,
    name: "flags",
    bearerToken: Effect.flatMap(FileSystem.FileSystem, (files) =>
      Effect.map(files.readFileString(`${mount}/token`), Redacted.make)
    ),
    schema: ConfigMap
  })

const line = (change: Change.Change<typeof ConfigMap.Type>): string => {
  const previous = change._tag === "Added" ? Option.none() : change.previous
  return [
    change._tag,
    ...(change._tag === "Removed" ? [] : [change.value.data["color"]]),
    ...Option.toArray(Option.map(previous, ({ data }) => `was ${data["color"]}`))
  ].join(" ")
}

const brief = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  return error instanceof HttpSource.HttpSourceError ? `${error.reason} ${error.status ?? "-"}` : String(error)
}

/** All that a test has seen of a watch. */
class Seen {
  readonly lines: Array<string> = []
  readonly ids: Array<string> = []
  readonly warnings: Array<string> = []
  /** Everything that could give a secret away. */
  readonly out: Array<string> = []
  status: WatchStatus.WatchStatus | undefined
  phase = ""
  readonly phases = new Set<string>()

  readonly observe = (status: WatchStatus.WatchStatus): void => {
    const { phase } = status
    this.status = status
    this.phase = phase._tag === "Backoff" ? brief(phase.error) : phase._tag
    this.phases.add(this.phase)
    this.out.push(inspect(status, { depth: 20 }), JSON.stringify(status))
    if (phase._tag === "Backoff") this.out.push(Cause.pretty(phase.error, { renderErrorCause: true }))
  }

  readonly logger = Logger.make<unknown, void>(({ annotations, cause, logLevel, message }) => {
    if (logLevel._tag === "Warning") this.warnings.push([message].flat().join(" "))
    this.out.push(inspect([message, annotations, Cause.pretty(cause)], { depth: 20 }))
  })
}

const fast = { interval: "20 millis", maxBackoff: "40 millis" } as const

/** Watches with a checkpoint in this folder, until the scope is closed. */
const startWatch = (seen: Seen, cluster: Cluster, mount: string, state: string) =>
  Effect.gen(function* () {
    const watcher = yield* Watcher.make(flagsOf(cluster, mount), { ...fast, checkpoint: "flags" })
    yield* Effect.forkScoped(
      Stream.runForEach(watcher.status.changes, (status) => Effect.sync(() => seen.observe(status)))
    )
    const running = watcher.runForEach((change, { id }) =>
      Effect.sync(() => {
        seen.lines.push(line(change))
        seen.ids.push(id)
      })
    )
    yield* Effect.forkScoped(running)
  }).pipe(
    (program) =>
      Effect.flatMap(
        Layer.build(
          Layer.mergeAll(
            NodeClient.layer({ ca: certificates.ca, proxy: "none" }),
            Layer.provideMerge(Checkpoints.layerFileSystem({ directory: state }), NodeContext.layer)
          )
        ),
        (services) => Effect.provide(program, services)
      ),
    Effect.provide(Logger.replace(Logger.defaultLogger, seen.logger)),
    Logger.withMinimumLogLevel(LogLevel.All)
  )

const stored = (folder: string): string =>
  readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => `${folder}/${name}`)
    .filter((file) => statSync(file).isFile())
    .map((file) => `${file}\n${readFileSync(file, "latin1")}`)
    .join("\n")

describe("a ConfigMap of a Kubernetes cluster", () => {
  it.scopedLive(
    "H1 H6 H9 is followed through rotated tokens, 403, a server that restarts and restarts of the watch",
    () =>
      Effect.gen(function* () {
        const cluster = yield* startCluster()
        const { requests } = cluster.server
        const [mount, state] = yield* Effect.all([periscope.folder, periscope.folder])
        mountToken(mount, cluster.token)
        const seen = new Seen()
        const until = (what: () => boolean) =>
          periscope.eventually(what, () =>
            inspect({ phase: seen.phase, lines: seen.lines, answered: cluster.answered })
          )
        const expected: Array<string> = []
        const untilSeen = (line: string) =>
          Effect.zipRight(
            until(() => seen.lines.length > expected.length),
            Effect.sync(() => {
              expected.push(line)
              assert.deepStrictEqual(seen.lines, expected)
            })
          )
        /** Two whole polls, which change nothing. */
        const twoPolls = Effect.suspend(() => {
          const polls = seen.status?.polls ?? 0
          return until(() => (seen.status?.polls ?? 0) > polls + 2)
        })
        const run = (steps: Effect.Effect<void>) =>
          Effect.scoped(
            startWatch(seen, cluster, mount, state).pipe(
              Effect.zipRight(steps),
              Effect.zipRight(until(() => seen.status?.uncommitted === 0))
            )
          )

        yield* run(
          Effect.gen(function* () {
            yield* until(() => seen.phase === "Live")
            yield* twoPolls
            cluster.apply("red")
            yield* untilSeen("Added red")
            cluster.apply("green")
            yield* untilSeen("Modified green was red")
            cluster.remove()
            yield* untilSeen("Removed was green")
            yield* twoPolls
            cluster.apply("blue")
            yield* untilSeen("Added blue")
            assert.deepStrictEqual(seen.warnings, [])

            // the kubelet is late: three polls fail, each after it has read the file twice
            cluster.onRefusal = (refusals) => {
              if (refusals === 6) mountToken(mount, "token-2")
            }
            cluster.apply("late")
            cluster.token = "token-2"
            yield* untilSeen("Modified late was blue")
            assert.isTrue(seen.phases.has("Unauthorized 401"))
            assert.strictEqual(cluster.refusals, 6)
            assert.strictEqual(seen.warnings.length, 3)
            assert.match(seen.warnings[2]!, /^flags: poll failed \(attempt 3, next in 40ms\): flags answered 401/)

            // the kubelet is in time: the second reading of the same poll has the new token
            cluster.onRefusal = () => mountToken(mount, "token-3")
            cluster.apply("in time")
            cluster.token = "token-3"
            yield* untilSeen("Modified in time was late")
            assert.strictEqual(cluster.refusals, 7)
            assert.strictEqual(seen.warnings.length, 3)

            const before = requests.length
            cluster.isForbidden = true
            yield* until(() => seen.phase === "Unauthorized 403" && (seen.status?.consecutiveFailures ?? 0) >= 3)
            cluster.isForbidden = false
            yield* until(() => seen.phase === "Live")
            assert.isAtLeast(requests.length - before, 4)

            // in the middle of an answer: reset, then refused
            cluster.isHanging = true
            const asked = requests.length
            yield* until(() => requests.length > asked)
            yield* cluster.server.pause
            yield* until(() => seen.phase === "Network -" && (seen.status?.consecutiveFailures ?? 0) >= 3)
            cluster.isHanging = false
            cluster.apply("after the restart")
            yield* cluster.server.resume
            yield* untilSeen("Modified after the restart was in time")
            yield* twoPolls
          })
        )
        // nothing has happened while nobody watched
        yield* run(
          Effect.zipRight(
            until(() => seen.phase === "Live"),
            twoPolls
          )
        )
        assert.deepStrictEqual(seen.lines, expected)
        cluster.apply("away")
        yield* run(Effect.zipRight(untilSeen("Modified away was after the restart"), twoPolls))

        assert.deepStrictEqual(seen.lines, expected)
        assert.strictEqual(new Set(seen.ids).size, expected.length)
        assert.deepStrictEqual(cluster.answered, [404, 200, 404, 200, 401, 200, 401, 200, 403, 200])
        const reasons = seen.warnings.map((warning) => / (answered \d+|cannot be reached)/.exec(warning)?.[1])
        assert.deepStrictEqual(
          reasons.filter((reason, index) => reason !== reasons[index - 1]),
          ["answered 401", "answered 403", "cannot be reached"]
        )
        const tokens = requests.map(({ headers }) => headers.authorization)
        assert.deepStrictEqual(
          new Set(tokens),
          new Set(["token-1", "token-2", "token-3"].map((token) => `Bearer ${token}`))
        )
        assert.include(seen.out.join("\n"), "answered 401")
        assert.include(stored(state), "checkpoint")
        assert.notInclude(seen.out.join("\n"), "token-")
        assert.notInclude(stored(state), "token-")
      })
  )

  it.scopedLive("H9 is seen with the cluster's CA only, and where it is asked for with a client certificate only", () =>
    Effect.gen(function* () {
      const cluster = yield* startCluster({
        ...tls,
        ca: certificates.ca,
        requestCert: true,
        rejectUnauthorized: true
      })
      cluster.apply("blue")
      const mount = yield* periscope.folder
      mountToken(mount, cluster.token)
      const look = (client: NodeClient.Options, url = cluster.server.url(path)) =>
        Watcher.once(flagsOf(cluster, mount, url)).pipe(
          Effect.map((changes) => changes.map(line)),
          Effect.catchTag("HttpSourceError", ({ isRetryable, message, reason }) =>
            Effect.succeed([reason, isRetryable, message.replace(/^flags /, "")])
          ),
          Effect.provide([NodeClient.layer({ proxy: "none", ...client }), NodeContext.layer])
        )
      const { ca, clientCert: cert, clientKey: key } = certificates
      assert.deepStrictEqual(yield* look({ ca, cert, key: Redacted.make(key) }), ["Added blue"])
      const encrypted = {
        ...{ ca: [certificates.otherCa, ca], cert, key: certificates.clientKeyEncrypted },
        passphrase: Redacted.make(certificates.clientKeyPassphrase)
      }
      assert.deepStrictEqual(yield* look(encrypted), ["Added blue"])
      assert.deepStrictEqual(
        yield* look({ ca, cert, key }, cluster.server.url(path).replace("127.0.0.1", "localhost")),
        ["Added blue"]
      )
      const unknown = [
        "Network",
        true,
        "cannot be reached: the certificate chain is self-signed; give the client its CA (SELF_SIGNED_CERT_IN_CHAIN)."
      ]
      assert.deepStrictEqual(yield* look({ cert, key }), unknown)
      assert.deepStrictEqual(yield* look({ ca: certificates.otherCa, cert, key }), unknown)
      assert.deepStrictEqual(yield* look({ ca, cert, key, servername: "elsewhere" }), [
        "Network",
        true,
        "cannot be reached: the certificate is for another name (ERR_TLS_CERT_ALTNAME_INVALID)."
      ])
      const [reason, isRetryable] = yield* look({ ca })
      assert.deepStrictEqual([reason, isRetryable], ["Network", true])
      assert.strictEqual(cluster.server.requests.length, 3)
    })
  )

  it.scopedLive("H9 is watched by the command line, which sends each origin its own credentials only", () =>
    Effect.gen(function* () {
      const [one, two] = yield* Effect.all([startCluster(), startCluster()])
      one.token = "sec-one"
      two.token = "sec-two"
      for (const cluster of [one, two]) cluster.apply("blue")
      const folder = yield* periscope.folder
      const ca = `${folder}/ca.crt`
      writeFileSync(ca, certificates.ca)
      const args = [
        ...["watch", `one=${one.server.url(path)}`, `two=${two.server.url(path)}`, "--interval", "20ms"],
        ...["--log-level", "debug", "--bearer-token-env", "one=TOKEN_ONE", "--bearer-token-env", "two=TOKEN_TWO"],
        ...["--header", "one:X-Own: sec-header-one", "--header", "two:X-Own: sec-header-two"]
      ]
      const tokens = { TOKEN_ONE: "sec-one", TOKEN_TWO: "sec-two" }
      const stranger = yield* periscope.start(args, tokens)
      yield* stranger.until(() => stranger.stderr().includes("two: poll failed (attempt 2"))
      assert.include(
        stranger.stderr(),
        "the certificate cannot be verified; set NODE_EXTRA_CA_CERTS to the file of its CA"
      )
      stranger.kill("SIGTERM")
      assert.strictEqual((yield* stranger.ended).stdout, "")
      assert.deepStrictEqual([one.server.requests, two.server.requests], [[], []])

      const cli = yield* periscope.start(args, { ...tokens, NODE_EXTRA_CA_CERTS: ca })
      yield* cli.until(() => cli.lines().length === 2)
      one.apply("green")
      yield* cli.until(() => cli.lines().length === 3)
      two.token = "sec-three"
      yield* cli.until(() => cli.stderr().includes(`${two.server.url(path)} answered 401`))
      cli.kill("SIGTERM")
      const { code, stderr, stdout } = yield* cli.ended
      assert.strictEqual(code, 0)
      const seen = cli.lines().map(({ source, type, value }) => {
        const object = Either.getOrThrow(Schema.decodeUnknownEither(ConfigMap)(value?.["json"]))
        return `${source} ${type} ${object.data["color"]}`
      })
      assert.deepStrictEqual(seen.slice(0, 2).sort(), ["one Added blue", "two Added blue"])
      assert.deepStrictEqual(seen.slice(2), ["one Modified green"])
      for (const [cluster, name] of [
        [one, "one"],
        [two, "two"]
      ] as const) {
        const sent = new Set(
          cluster.server.requests.map(({ headers }) => `${headers.authorization} ${headers["x-own"]}`)
        )
        assert.deepStrictEqual([...sent], [`Bearer sec-${name} sec-header-${name}`])
      }
      assert.notInclude(stdout + stderr, "sec-")
    })
  )
})
