/**
 * Manages a Tap server: which repositories it follows, and how it fares.
 *
 * Every request is bounded in time and size and repeats nothing by itself; all of them can be repeated without harm. No password is
 * ever part of an error, a log or a span.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as tapEndpoint from "./tapEndpoint.js"
import type { TapClientError } from "./tapExchange.js"
import * as tapExchange from "./tapExchange.js"

export {
  /**
   * A request that failed.
   *
   * - `Network`: no connection, or it broke. Retryable.
   * - `Timeout`: no complete answer in time. Retryable.
   * - `Status`: an answer that is no success, such as 500 (retryable, as 408, 425 and 429).
   * - `Unauthorized`: the password is missing or wrong.
   * - `Decode`: an answer that no Tap server gives.
   * - `InvalidRequest`: what was given is no DID; nothing was sent.
   *
   * **Details** The message names the server and the operation, and says what to do.
   *
   * **Example**
   * ```ts
   * import { Effect, Schedule } from "effect"
   * import { TapClient } from "effect-periscope/socket"
   *
   * const mayWork = (error: TapClient.TapClientError) => error.isRetryable
   * const follow = Effect.flatMap(TapClient.TapClient, (tap) => tap.addRepos(["did:plc:ewvi7nxzyoun6zhxrhs64oiz"])).pipe(
   *   Effect.retry({ while: mayWork, schedule: Schedule.exponential("1 second") })
   * )
   * ```
   *
   * @category errors
   * @since 0.1.0
   */
  TapClientError
} from "./tapExchange.js"

/**
 * What a Tap server knows of a repository that it follows.
 *
 * - `state`: `pending` until its history is fetched (`resyncing`), then `active`; `desynchronized` where that has to be done again,
 *   `error` where it failed (`error` says why, after `retries` attempts); or what became of the account.
 * - `rev`: the revision up to which it is read, `records`: how many records it has. What is not known is an empty text.
 *
 * @category models
 * @since 0.1.0
 */
export interface RepoInfo {
  readonly did: string
  readonly handle: string
  readonly state:
    "pending" | "desynchronized" | "resyncing" | "active" | "takendown" | "suspended" | "deactivated" | "error"
  readonly rev: string
  readonly records: number
  readonly error?: string | undefined
  readonly retries?: number | undefined
}

/**
 * The states of a repository, as in {@link RepoInfo}.
 *
 * **Example**
 * ```ts
 * import { TapClient } from "effect-periscope/socket"
 *
 * TapClient.repoStates.length // => 8
 * ```
 *
 * @category constants
 * @since 0.1.0
 */
export const repoStates: ReadonlyArray<RepoInfo["state"]> = [
  "pending",
  "desynchronized",
  "resyncing",
  "active",
  "takendown",
  "suspended",
  "deactivated",
  "error"
]

/**
 * The schema of {@link RepoInfo}.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { TapClient } from "effect-periscope/socket"
 *
 * const saved = Schema.encodeSync(Schema.parseJson(TapClient.RepoInfo))
 * ```
 *
 * @category schemas
 * @since 0.1.0
 */
export const RepoInfo: Schema.Schema<RepoInfo> = Schema.Struct({
  did: Schema.String,
  handle: Schema.String,
  state: Schema.Literal(...repoStates),
  rev: Schema.String,
  records: Schema.Number,
  error: Schema.optional(Schema.String),
  retries: Schema.optional(Schema.Number)
})

/**
 * What an account says of itself; what else there is of it is kept.
 *
 * @category models
 * @since 0.1.0
 */
export interface DidDocument {
  readonly id: string
  readonly alsoKnownAs?: ReadonlyArray<string> | undefined
  readonly service?:
    ReadonlyArray<{ readonly id: string; readonly type: string; readonly serviceEndpoint: unknown }> | undefined
}

/**
 * The schema of {@link DidDocument}.
 *
 * **Example**
 * ```ts
 * import { Schema } from "effect"
 * import { TapClient } from "effect-periscope/socket"
 *
 * const isDocument = Schema.is(TapClient.DidDocument)
 *
 * isDocument({ id: "did:plc:abc123" }) // => true
 * ```
 *
 * @category schemas
 * @since 0.1.0
 */
export const DidDocument: Schema.Schema<DidDocument> = Schema.Struct({
  id: Schema.String,
  alsoKnownAs: Schema.optional(Schema.Array(Schema.String)),
  service: Schema.optional(
    Schema.Array(Schema.Struct({ id: Schema.String, type: Schema.String, serviceEndpoint: Schema.Unknown }))
  )
})

/**
 * How much there is on a server: repositories and records that it follows, events in its outbox, and live events that wait for
 * the history of their repository. `firehose` and `listRepos` say where it is in what it reads, if it reads that.
 *
 * @category models
 * @since 0.1.0
 */
export interface Stats {
  readonly repos: number
  readonly records: number
  readonly outboxBuffer: number
  readonly resyncBuffer: number
  readonly firehose: Option.Option<number>
  readonly listRepos: Option.Option<string>
}

/**
 * The management of a Tap server, as a service.
 *
 * - `addRepos`: follows repositories, their history first; one that is followed already stays as it is.
 * - `removeRepos`: follows them no more; what is in the outbox is still delivered.
 * - `resolve`: the document of a DID, none if there is no such account.
 * - `info`: what the server knows of a repository, none if it does not follow it.
 * - `stats`, `health`: how it fares; `health` fails when it does not answer.
 *
 * **Example** See {@link make}.
 *
 * @category services
 * @since 0.1.0
 */
export class TapClient extends Context.Tag("effect-periscope/TapClient")<
  TapClient,
  {
    /** The address of the server, without a password. */
    readonly server: string
    readonly addRepos: (dids: Iterable<string>) => Effect.Effect<void, TapClientError>
    readonly removeRepos: (dids: Iterable<string>) => Effect.Effect<void, TapClientError>
    readonly resolve: (did: string) => Effect.Effect<Option.Option<DidDocument>, TapClientError>
    readonly info: (did: string) => Effect.Effect<Option.Option<RepoInfo>, TapClientError>
    readonly stats: Effect.Effect<Stats, TapClientError>
    readonly health: Effect.Effect<void, TapClientError>
  }
>() {}

/**
 * Where the server is.
 *
 * - `url`: `http(s)://`, `ws(s)://` or `tap(s)://`; the address of the channel will do. User info becomes the password.
 * - `password`: that of `admin` [none].
 * - `userAgent`: ["effect-periscope"].
 * - `timeout`: bound of one request and its answer [30 seconds].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly url: string | URL
  readonly password?: Redacted.Redacted | undefined
  readonly userAgent?: string | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/** So many fit into one statement of the server's database. */
const maxDids = 1000

/**
 * Whether a text is a DID, as far as a Tap server looks at it.
 *
 * **Example**
 * ```ts
 * import { TapClient } from "effect-periscope/socket"
 *
 * TapClient.isDid("did:plc:ewvi7nxzyoun6zhxrhs64oiz") // => true
 * TapClient.isDid("alice.example") // => false
 * ```
 *
 * @category guards
 * @since 0.1.0
 */
export const isDid = (text: string): boolean =>
  text.length <= 2048 && /^did:[a-z]+:[a-zA-Z0-9._:%-]*[a-zA-Z0-9._-]$/.test(text)

const count = <Name extends string>(name: Name) =>
  Schema.Struct({ [name]: Schema.Number } as { readonly [K in Name]: typeof Schema.Number })

/**
 * Makes the client of a server.
 *
 * **Details** Repositories are added and removed in groups of 1000, one after the other; after a failure some may be done. What is
 * no DID is found before anything is sent.
 *
 * **Errors** An `url` that is none, or a password that is given twice, throws, naming the option and not the value.
 *
 * **Source** `cmd/tap` in github.com/bluesky-social/indigo
 *
 * **Example**
 * ```ts
 * import { Effect, Option } from "effect"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 * import { TapClient } from "effect-periscope/socket"
 * import * as TapServer from "effect-periscope/testing/TapServer"
 *
 * const program = Effect.gen(function* () {
 *   const server = yield* TapServer.make()
 *   const tap = yield* TapClient.make({ url: server.url })
 *   yield* tap.addRepos(["did:plc:alice"])
 *   const { repos } = yield* tap.stats
 *   return [repos, Option.map(yield* tap.info("did:plc:alice"), ({ state }) => state)]
 * })
 *
 * await Effect.runPromise(program.pipe(Effect.scoped, Effect.provide(NodeClient.layer()))) // => [1, Option.some("pending")]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Context.Tag.Service<TapClient>, never, HttpClient.HttpClient> => {
  const endpoint = tapEndpoint.make("TapClient", options)
  const { timeout = "30 seconds", userAgent = "effect-periscope" } = options
  const duration = Option.getOrElse(Duration.decodeUnknown(timeout), () => Duration.zero)
  if (!Duration.isFinite(duration) || Duration.toMillis(duration) <= 0) {
    throw new Error(`TapClient: \`timeout\` is ${String(timeout)}; it must be a finite duration above zero.`)
  }
  return Effect.map(HttpClient.HttpClient, (client) => {
    const { ask, refuse } = tapExchange.make(client, endpoint, { timeout: duration, userAgent })
    const traced =
      (operation: TapClientError["operation"]) =>
      <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
        Effect.withSpan(effect, `TapClient.${operation}`, {
          kind: "client",
          attributes: { "periscope.source": endpoint.name },
          captureStackTrace: false
        })

    const checked = (operation: TapClientError["operation"], did: string): Effect.Effect<void, TapClientError> =>
      isDid(did)
        ? Effect.void
        : refuse(
            operation,
            `takes DIDs, such as did:plc:ewvi7nxzyoun6zhxrhs64oiz, and ${JSON.stringify(did.slice(0, 100))} is none.`
          )

    const found = <A>(
      operation: TapClientError["operation"],
      answer: Option.Option<A>
    ): Effect.Effect<A, TapClientError> =>
      Option.match(answer, {
        onNone: () => refuse(operation, "was answered with 404: there is no Tap server at that address."),
        onSome: Effect.succeed
      })

    const edit = (operation: "addRepos" | "removeRepos", path: string) => (dids: Iterable<string>) =>
      Effect.gen(function* () {
        const all = [...new Set(dids)]
        yield* Effect.forEach(all, (did) => checked(operation, did), { discard: true })
        // the server refuses an empty list
        for (let start = 0; start < all.length; start += maxDids) {
          const post = { dids: all.slice(start, start + maxDids) }
          yield* found(operation, yield* ask({ operation, path, schema: Schema.Unknown, post }))
        }
      }).pipe(traced(operation))

    const lookUp =
      <A>(operation: "resolve" | "info", schema: Schema.Schema<A>) =>
      (did: string) =>
        checked(operation, did).pipe(
          Effect.zipRight(ask({ operation, path: `/${operation}/${did}`, schema })),
          traced(operation)
        )

    const stat = <A>(name: string, schema: Schema.Schema<A>) =>
      Effect.flatMap(ask({ operation: "stats", path: `/stats/${name}`, schema }), (answer) => found("stats", answer))

    return {
      server: endpoint.name,
      addRepos: edit("addRepos", "/repos/add"),
      removeRepos: edit("removeRepos", "/repos/remove"),
      resolve: lookUp("resolve", DidDocument),
      info: lookUp("info", RepoInfo),
      stats: Effect.all(
        {
          repos: Effect.map(stat("repo-count", count("repo_count")), (answer) => answer.repo_count),
          records: Effect.map(stat("record-count", count("record_count")), (answer) => answer.record_count),
          outboxBuffer: Effect.map(stat("outbox-buffer", count("outbox_buffer")), (answer) => answer.outbox_buffer),
          resyncBuffer: Effect.map(stat("resync-buffer", count("resync_buffer")), (answer) => answer.resync_buffer),
          cursors: stat(
            "cursors",
            Schema.Struct({ firehose: Schema.optional(Schema.Number), list_repos: Schema.optional(Schema.String) })
          )
        },
        { concurrency: "unbounded" }
      ).pipe(
        Effect.map(({ cursors, ...counts }): Stats => ({
          ...counts,
          firehose: Option.fromNullable(cursors.firehose),
          listRepos: Option.fromNullable(cursors.list_repos)
        })),
        traced("stats")
      ),
      health: ask({
        operation: "health",
        path: "/health",
        schema: Schema.Struct({ status: Schema.Literal("ok") })
      }).pipe(
        Effect.flatMap((answer) => found("health", answer)),
        Effect.asVoid,
        traced("health")
      )
    }
  })
}

/**
 * Provides the client of a server.
 *
 * **Example**
 * ```ts
 * import { Layer, Redacted } from "effect"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 * import { TapClient } from "effect-periscope/socket"
 *
 * const TapLive = TapClient.layer({ url: "https://tap.example.com", password: Redacted.make("secret") }).pipe(
 *   Layer.provide(NodeClient.layer())
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options): Layer.Layer<TapClient, never, HttpClient.HttpClient> =>
  Layer.effect(TapClient, make(options))

/**
 * Provides the client of a server whose address and password the configuration holds.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that the constructor takes.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { TapClient } from "effect-periscope/socket"
 *
 * const TapLive = TapClient.layerConfig({
 *   url: Config.string("TAP_URL"),
 *   password: Config.redacted("TAP_ADMIN_PASSWORD")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config.Wrap<Options>
): Layer.Layer<TapClient, ConfigError.ConfigError, HttpClient.HttpClient> =>
  Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (options) =>
      Effect.try({
        try: () => layer(options),
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "TapClient: not valid.")
      })
    )
  )
