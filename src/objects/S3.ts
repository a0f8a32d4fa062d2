/**
 * A bucket of Amazon S3, or of a server that speaks the same protocol, as an `ObjectStore`, over any `HttpClient`.
 *
 * Pages come in the order of their keys' UTF-8 bytes. A page counts only when all of it arrived and its counts agree; a bucket
 * that is not there, another region's bucket and an answer of something that is not S3 are errors. Bodies, waits and pages are
 * bounded.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { createHash } from "node:crypto"
import * as cloudRequest from "./cloudRequest.js"
import type { ObjectMeta } from "./ObjectStore.js"
import * as ObjectStore from "./ObjectStore.js"
import type { Address } from "./s3Address.js"
import * as s3Address from "./s3Address.js"
import * as s3Keys from "./s3Keys.js"
import * as s3Listing from "./s3Listing.js"
import type { Ask, Requests } from "./s3Requests.js"
import * as s3Requests from "./s3Requests.js"

/**
 * An access key and its secret; of temporary ones the session token, and when they end: milliseconds since 1970.
 *
 * @category models
 * @since 0.1.0
 */
export interface Credentials {
  readonly accessKeyId: string
  readonly secretAccessKey: Redacted.Redacted
  readonly sessionToken?: Redacted.Redacted | undefined
  readonly expiresAtMillis?: number | undefined
}

/**
 * Why there are no credentials. The store's own error takes over the reason and the message, so no secret belongs into it.
 *
 * - `Unauthorized`: there are none, or they are refused.
 * - `InvalidRequest`: something is missing that only a person can put right, such as a package.
 * - `Network`, `Timeout`: nobody could be asked.
 *
 * **Example**
 * ```ts
 * import { S3 } from "effect-periscope/objects"
 *
 * const sealed = new S3.CredentialsError({ reason: "Unauthorized", message: "The vault is sealed." })
 *
 * sealed.reason // => "Unauthorized"
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class CredentialsError extends Schema.TaggedError<CredentialsError>("effect-periscope/S3CredentialsError")(
  "CredentialsError",
  {
    reason: Schema.Literal("Unauthorized", "InvalidRequest", "Network", "Timeout"),
    message: Schema.String
  }
) {}

/**
 * What {@link make} takes.
 *
 * - `bucket`: its name.
 * - `region`: where it is [`AWS_REGION`, else `AWS_DEFAULT_REGION` of the configuration, else us-east-1]. Amazon's servers name
 *   the right one, which is then used; other servers only check what was given.
 * - `endpoint`: the address of another server than Amazon's [`AWS_ENDPOINT_URL_S3`, else `AWS_ENDPOINT_URL` of the
 *   configuration, else Amazon's].
 * - `pathStyle`: whether the bucket is in the path instead of the host [true at an `endpoint`, and for a bucket whose name holds
 *   a dot].
 * - `credentials`: keys; `"anonymous"` for a public bucket; or an effect that gives keys, such as `S3Credentials.make()`, which
 *   is the normal chain of Amazon's clients. It runs when keys are first needed, before they end, and once more when they are
 *   refused [`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the configuration].
 * - `timeout`: bound of one request with its whole answer; of `get` until the content begins, and then between two parts of it
 *   [30 seconds].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> {
  readonly bucket: string
  readonly region?: string | undefined
  readonly endpoint?: string | URL | undefined
  readonly pathStyle?: boolean | undefined
  readonly credentials?: Credentials | "anonymous" | Effect.Effect<Credentials, CredentialsError, R> | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * Makes a store of a bucket. Nothing is asked of the bucket before it is used.
 *
 * **Details** A page holds up to 1000 objects; `etag` tells one state from the next, and there is no `version`. To list and read,
 * the credentials need `s3:ListBucket` on the bucket and `s3:GetObject` on its objects; to `put` and `remove`, `s3:PutObject` and
 * `s3:DeleteObject`. A clock that is wrong is corrected by the server's, once it complains. The identity is `s3://bucket`, or
 * the address of the bucket at another `endpoint`.
 *
 * **Gotchas** A `head` that fails costs a second request, which says why. Without `s3:ListBucket` Amazon answers 403 for an object
 * that is not there, which is `Unauthorized`. `put` is one request, so at most 5 GiB. Keys that are not valid UTF-8 make their
 * page unreadable. A key of `.` or `..` needs `pathStyle`.
 *
 * **Errors** `ObjectStoreError`. `ConfigError` for an environment without credentials, where none are given. Options that cannot
 * be right throw at construction.
 *
 * **Source** Amazon S3 REST API (2006-03-01), ListObjectsV2, Signature Version 4
 *
 * **Example**
 * ```ts
 * import { Effect, Redacted, Stream } from "effect"
 * import { S3 } from "effect-periscope/objects"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * const sizes = S3.make({
 *   bucket: "reports",
 *   endpoint: "http://127.0.0.1:9000",
 *   credentials: { accessKeyId: "minioadmin", secretAccessKey: Redacted.make("minioadmin") }
 * }).pipe(
 *   Effect.flatMap((store) => Stream.runFold(store.list({ prefix: "2026/" }), 0, (sum, { size }) => sum + size)),
 *   Effect.provide(NodeClient.layer())
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  options: Options<R>
): Effect.Effect<Context.Tag.Service<ObjectStore.ObjectStore>, ConfigError.ConfigError, HttpClient.HttpClient | R> => {
  const timeout = cloudRequest.checkTimeout("S3", options.timeout)
  const given = resolve(options, {})
  return Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const context = yield* Effect.context<R>()
    const { address, region } = yield* fromEnvironment(options, given)
    const keys = yield* keyRing(options.credentials, context, timeout)
    const transport = cloudRequest.make(client, address.identity, timeout, s3Requests.secretHeaders)
    return ObjectStore.make(backend(transport, address.identity, s3Requests.make(transport, { address, region, keys })))
  })
}

/**
 * Provides a bucket as the `ObjectStore`.
 *
 * **Example**
 * ```ts
 * import { Layer } from "effect"
 * import { S3 } from "effect-periscope/objects"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * // credentials and region from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION
 * const ReportsLive = S3.layer({ bucket: "reports" }).pipe(Layer.provide(NodeClient.layer()))
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R = never>(
  options: Options<R>
): Layer.Layer<ObjectStore.ObjectStore, ConfigError.ConfigError, HttpClient.HttpClient | R> =>
  Layer.effect(ObjectStore.ObjectStore, make(options))

/**
 * What {@link layerConfig} reads from the configuration; keys one by one.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConfigOptions extends Omit<Options, "credentials"> {
  readonly credentials?: Credentials | undefined
}

/**
 * Provides a bucket as the `ObjectStore`, with its options from the configuration.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that {@link make} takes.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { S3 } from "effect-periscope/objects"
 *
 * const ReportsLive = S3.layerConfig({
 *   bucket: Config.string("REPORTS_BUCKET"),
 *   credentials: {
 *     accessKeyId: Config.string("REPORTS_KEY"),
 *     secretAccessKey: Config.redacted("REPORTS_SECRET")
 *   }
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config.Wrap<ConfigOptions>
): Layer.Layer<ObjectStore.ObjectStore, ConfigError.ConfigError, HttpClient.HttpClient> =>
  Layer.unwrapEffect(Effect.flatMap(Config.unwrap(config), (options) => orConfigError([], () => layer(options))))

// ---------------------------------------------------------------- options

const refuse = (sentence: string): never => {
  throw new Error(`S3: ${sentence}`)
}

interface Resolved {
  readonly address: Address
  readonly region: string
}

/** Where the bucket is, by the options first; what cannot be right throws. */
const resolve = (
  options: Pick<Options<unknown>, "bucket" | "region" | "endpoint" | "pathStyle">,
  defaults: { readonly region?: string | undefined; readonly endpoint?: string | undefined }
): Resolved => {
  const { bucket, pathStyle } = options
  const region = options.region ?? defaults.region ?? "us-east-1"
  const endpoint = options.endpoint ?? defaults.endpoint
  if (!s3Address.isBucket(bucket)) {
    return refuse(
      `\`bucket\` is ${JSON.stringify(bucket)}; it must be the name of a bucket alone, such as "my-reports".`
    )
  }
  if (!s3Address.isRegion(region)) {
    return refuse(`\`region\` is ${JSON.stringify(region)}; it must be the name of a region, such as "eu-west-1".`)
  }
  if (endpoint === undefined) return { address: s3Address.amazon(bucket, pathStyle), region }
  const where = cloudRequest.checkEndpoint("S3", endpoint)
  if (pathStyle === false && !URL.canParse(where.replace("://", `://${bucket}.`))) {
    return refuse(`\`pathStyle\` is false, but ${JSON.stringify(bucket)} cannot be part of a host name.`)
  }
  return { address: s3Address.custom(where, bucket, pathStyle), region }
}

const fromEnvironment = (
  options: Options<unknown>,
  given: Resolved
): Effect.Effect<Resolved, ConfigError.ConfigError> => {
  if (options.region !== undefined && options.endpoint !== undefined) return Effect.succeed(given)
  return Effect.gen(function* () {
    const region = yield* variable("AWS_REGION", "AWS_DEFAULT_REGION")
    const endpoint = yield* variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    return yield* orConfigError(["AWS_REGION", "AWS_ENDPOINT_URL_S3"], () => resolve(options, { region, endpoint }))
  })
}

const orConfigError = <A>(path: Array<string>, make: () => A): Effect.Effect<A, ConfigError.ConfigError> =>
  Effect.try({
    try: make,
    catch: (error) => ConfigError.InvalidData(path, error instanceof Error ? error.message : "S3: not valid.")
  })

/** The first of some variables that is set to something. */
const variable = (...names: ReadonlyArray<string>): Effect.Effect<string | undefined, ConfigError.ConfigError> =>
  Effect.map(
    Effect.forEach(names, (name) => Config.option(Config.string(name))),
    (values) => values.map(Option.getOrUndefined).find((value) => value !== undefined && value !== "")
  )

const noCredentials =
  "S3 has no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give `credentials`, which may be " +
  'S3Credentials.make() for profiles and roles, or "anonymous" for a public bucket'

const environmentKeys: Effect.Effect<Credentials, ConfigError.ConfigError> = Effect.gen(function* () {
  const accessKeyId = yield* variable("AWS_ACCESS_KEY_ID")
  const secretAccessKey = yield* Config.option(Config.redacted("AWS_SECRET_ACCESS_KEY"))
  const sessionToken = yield* Config.option(Config.redacted(Config.nonEmptyString("AWS_SESSION_TOKEN")))
  if (accessKeyId === undefined || Option.isNone(secretAccessKey)) {
    const missing = accessKeyId === undefined ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY"
    return yield* Effect.fail(ConfigError.MissingData([missing], noCredentials))
  }
  return { accessKeyId, secretAccessKey: secretAccessKey.value, sessionToken: Option.getOrUndefined(sessionToken) }
})

const keyRing = <R>(
  credentials: Options<R>["credentials"],
  context: Context.Context<R>,
  timeout: Duration.Duration
): Effect.Effect<s3Keys.KeyRing<s3Requests.NoKeys> | undefined, ConfigError.ConfigError> => {
  if (credentials === undefined) return Effect.map(environmentKeys, s3Keys.fixed)
  if (credentials === "anonymous") return Effect.succeed(undefined)
  if (!Effect.isEffect(credentials)) return Effect.succeed(s3Keys.fixed(credentials))
  return s3Keys.make(
    Effect.timeoutFail(Effect.disconnect(Effect.provide(credentials, context)), {
      duration: timeout,
      onTimeout: () =>
        new CredentialsError({ reason: "Timeout", message: `None came within ${Duration.format(timeout)}.` })
    })
  )
}

// ---------------------------------------------------------------- operations

const maxPage = 1000

const backend = (
  transport: cloudRequest.Transport,
  identity: string,
  { attempt, fail, open, send }: Requests
): ObjectStore.Backend => {
  const traced = cloudRequest.traced("S3", identity)

  /** Why a `head` failed: its answer has no body to say so, that of a `get` has. */
  const explained = (ask: Ask) =>
    Effect.scoped(open({ ...ask, method: "GET", headers: { range: "bytes=0-0" } })).pipe(
      Effect.zipRight(attempt(ask)),
      Effect.flatMap((answer) => (cloudRequest.isSuccess(answer.status) ? Effect.succeed(answer) : fail(ask, answer)))
    )

  return {
    identity,
    listPage: ({ maxKeys = maxPage, prefix = "", token } = {}) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "listPage" }
        const pageSize = Math.min(maxKeys, maxPage)
        const ask: Ask = {
          ...target,
          method: "GET",
          query: {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": String(pageSize),
            ...(prefix === "" ? {} : { prefix }),
            // half of a surrogate pair, which has no place in an address, makes it one that the server never gave
            ...(token === undefined ? {} : { "continuation-token": token.replace(/\p{Surrogate}/gu, "\ufffd") })
          }
        }
        const answer = yield* send(ask)
        if (answer.status !== 200) return yield* fail(ask, answer)
        const page = s3Listing.scan(answer.body)
        if (Either.isLeft(page)) return yield* transport.fail(target, page.left.reason, `got what ${page.left.detail}.`)
        const wrong = cloudRequest.contradiction(page.right, prefix, pageSize)
        return wrong === undefined
          ? { ...page.right, ...cloudRequest.clockOf(answer.headers) }
          : yield* transport.fail(target, "Decode", `got ${wrong}.`)
      }).pipe(traced("listPage")),

    head: (key) =>
      Effect.gen(function* () {
        const ask: Ask = { operation: "head", key, method: "HEAD" }
        const first = yield* attempt(ask)
        const { headers } = cloudRequest.isSuccess(first.status) ? first : yield* explained(ask)
        const size = Number(headers["content-length"] ?? "none")
        if (!Number.isSafeInteger(size)) return yield* transport.fail(ask, "Decode", "got no size.")
        const lastModifiedMillis = cloudRequest.parseDate(headers["last-modified"] ?? "")
        return {
          key,
          size,
          ...etagOf(headers),
          ...(lastModifiedMillis === undefined ? {} : { lastModifiedMillis })
        }
      }).pipe(traced("head")),

    get: (key) => {
      const ask: Ask = { operation: "get", key, method: "GET" }
      const opened = Effect.flatMap(open(ask), ({ content, headers, status }) =>
        status === 200 ? Effect.succeed(content) : fail(ask, { status, headers, body: new Uint8Array() })
      )
      return Stream.withSpan(Stream.unwrapScoped(opened), "S3.get", {
        kind: "client",
        attributes: { "periscope.store": identity },
        captureStackTrace: false
      })
    },

    put: (key, content, { contentType = "application/octet-stream" } = {}) =>
      Effect.gen(function* () {
        const bytes = cloudRequest.bytesOf(content)
        const target: cloudRequest.Target = { operation: "put", key }
        if (!/^[\x20-\x7e]+$/.test(contentType)) {
          return yield* transport.fail(target, "InvalidRequest", "cannot be asked for: `contentType` is no media type.")
        }
        const headers = { "content-type": contentType, "content-md5": createHash("md5").update(bytes).digest("base64") }
        const answer = yield* send({ ...target, method: "PUT", headers, content: bytes })
        return { key, size: bytes.length, ...etagOf(answer.headers) }
      }).pipe(traced("put")),

    remove: (key) =>
      send({ operation: "remove", key, method: "DELETE" }).pipe(
        Effect.asVoid,
        Effect.catchIf(
          ({ reason }) => reason === "NotFound",
          () => Effect.void
        ),
        traced("remove")
      )
  }
}

const etagOf = ({ etag }: cloudRequest.ResponseHeaders): Pick<ObjectMeta, "etag"> =>
  etag === undefined ? {} : { etag }
