/**
 * A bucket of Google Cloud Storage as an `ObjectStore`, over its JSON API and any `HttpClient`.
 *
 * Pages come in the order of their keys' UTF-8 bytes. A page that is cut or is no listing at all is an error, never an empty
 * page, and so is a bucket that is not there. Bodies, waits and pages are bounded.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { AccessToken, AccessTokenError } from "./AccessToken.js"
import * as bearer from "./bearer.js"
import * as cloudRequest from "./cloudRequest.js"
import * as gcsPage from "./gcsPage.js"
import type { ObjectStoreError } from "./ObjectStore.js"
import * as ObjectStore from "./ObjectStore.js"

/**
 * How a bucket is opened.
 *
 * - an effect that gives an access token, such as `GcsCredentials.make()`, which is the normal chain of Google Cloud. It runs
 *   when a token is first needed, before that one ends, and once more after a 401.
 * - a token that never changes, such as one of `gcloud auth print-access-token`. It ends after an hour.
 * - `"anonymous"`: for a public bucket or an emulator.
 *
 * @category models
 * @since 0.1.0
 */
export type Credentials<R = never> = "anonymous" | Redacted.Redacted | Effect.Effect<AccessToken, AccessTokenError, R>

/**
 * What {@link make} takes.
 *
 * - `bucket`: its name.
 * - `credentials`: how it is opened.
 * - `endpoint`: where the API is [`STORAGE_EMULATOR_HOST` of the configuration, without credentials, as Google's own clients
 *   have it; else https://storage.googleapis.com].
 * - `timeout`: bound of one request with its whole answer; of `get` until the content begins, and then between two parts of it
 *   [30 seconds].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> {
  readonly bucket: string
  readonly credentials: Credentials<R>
  readonly endpoint?: string | URL | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * Makes a store of a bucket. Nothing is asked of the bucket before it is used.
 *
 * **Details** `version` is the object's generation, `etag` that of its metadata as well: it changes too when only the metadata
 * does. A page holds up to 1000 objects. To list and read, the credentials need `storage.objects.list` and
 * `storage.objects.get`, as in the role Storage Object Viewer; to `put` and `remove`, Storage Object User. The identity is
 * `gs://bucket`, or the address of the bucket at another `endpoint`.
 *
 * **Gotchas** An object stored with `Content-Encoding: gzip` is decompressed by Google on its way, so `get` gives other bytes
 * than `size` says. A 404 of `head`, `get` and `remove` costs one more request, which tells a missing object from a missing
 * bucket.
 *
 * **Errors** `ObjectStoreError`. A name of a bucket that none can have, an endpoint that is no plain http address and a timeout
 * that is not above zero throw at construction.
 *
 * **Source** Cloud Storage JSON API v1
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { Gcs } from "effect-periscope/objects"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * const sizes = Gcs.make({ bucket: "gcp-public-data-landsat", credentials: "anonymous" }).pipe(
 *   Effect.flatMap((store) => Stream.runFold(store.list({ prefix: "LC08/" }), 0, (sum, { size }) => sum + size)),
 *   Effect.provide(NodeClient.layer())
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  options: Options<R>
): Effect.Effect<Context.Tag.Service<ObjectStore.ObjectStore>, never, HttpClient.HttpClient | R> => {
  const { bucket, credentials } = options
  if (!/^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(bucket)) {
    throw new Error(
      `Gcs: \`bucket\` is ${JSON.stringify(bucket)}; it must be the name of a bucket alone, such as "my-reports".`
    )
  }
  const timeout = cloudRequest.checkTimeout("Gcs", options.timeout)
  const given = options.endpoint === undefined ? undefined : cloudRequest.checkEndpoint("Gcs", options.endpoint)
  return Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const context = yield* Effect.context<R>()
    const emulator = given === undefined ? yield* emulatorHost : undefined
    const endpoint = given ?? emulator ?? official
    const identity = endpoint === official ? `gs://${bucket}` : `${endpoint}/${bucket}`
    const transport = cloudRequest.make(client, identity, timeout, ["authorization"])
    const fetch = tokenOf(emulator === undefined ? credentials : "anonymous")
    const tokens = fetch === undefined ? undefined : yield* bearer.make(Effect.provide(fetch, context), timeout)
    return ObjectStore.make(
      backend(identity, `${endpoint}/`, bucket, tokens === undefined ? transport : bearer.authorized(transport, tokens))
    )
  })
}

/**
 * Provides a bucket as the `ObjectStore`.
 *
 * **Example**
 * ```ts
 * import { Layer } from "effect"
 * import { Gcs } from "effect-periscope/objects"
 * import * as GcsCredentials from "effect-periscope/objects/GcsCredentials"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * const ReportsLive = Gcs.layer({ bucket: "my-reports", credentials: GcsCredentials.make() }).pipe(
 *   Layer.provide(NodeClient.layer())
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = <R = never>(
  options: Options<R>
): Layer.Layer<ObjectStore.ObjectStore, never, HttpClient.HttpClient | R> =>
  Layer.effect(ObjectStore.ObjectStore, make(options))

/**
 * Provides a bucket as the `ObjectStore`, with its options from the configuration.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that {@link make} takes.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { Gcs } from "effect-periscope/objects"
 *
 * const ReportsLive = Gcs.layerConfig({
 *   bucket: Config.string("REPORTS_BUCKET"),
 *   credentials: Config.redacted("REPORTS_TOKEN")
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <R = never>(
  config: Config.Config.Wrap<Options<R>>
): Layer.Layer<ObjectStore.ObjectStore, ConfigError.ConfigError, HttpClient.HttpClient | R> =>
  Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (options) =>
      Effect.try({
        try: () => layer(options),
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "Gcs: not valid.")
      })
    )
  )

const official = "https://storage.googleapis.com"

const emulatorHost: Effect.Effect<string | undefined> = Config.option(Config.string("STORAGE_EMULATOR_HOST")).pipe(
  Effect.map(Option.getOrUndefined),
  Effect.orElseSucceed(() => undefined),
  Effect.map((host) => {
    if (host === undefined || host === "") return undefined
    return cloudRequest.checkEndpoint(
      "Gcs: STORAGE_EMULATOR_HOST, which stands for",
      /^https?:/.test(host) ? host : `http://${host}`
    )
  })
)

const tokenOf = <R>(credentials: Credentials<R>): Effect.Effect<AccessToken, AccessTokenError, R> | undefined => {
  if (credentials === "anonymous") return undefined
  return Redacted.isRedacted(credentials) ? Effect.succeed({ token: credentials }) : credentials
}

// ---------------------------------------------------------------- operations

const backend = (
  identity: string,
  base: string,
  bucket: string,
  transport: cloudRequest.Transport
): ObjectStore.Backend => {
  const { fail, open, send } = transport
  const objects = `${base}storage/v1/b/${encodeURIComponent(bucket)}/o`
  const traced = cloudRequest.traced("Gcs", identity)
  const addressOf = (target: cloudRequest.Target, key: string) =>
    Effect.map(cloudRequest.segment(transport, target, key), (segment) => `${objects}/${segment}`)

  const decoded = <A>(
    target: cloudRequest.Target,
    result: Either.Either<A, gcsPage.Problem>
  ): Effect.Effect<A, ObjectStoreError> =>
    Either.match(result, {
      onLeft: ({ detail, reason }) => Effect.fail(fail(target, reason, `${detail}.`)),
      onRight: Effect.succeed
    })

  const list = (target: cloudRequest.Target, query: Readonly<Record<string, string | undefined>>) =>
    send(requestOf(target, "GET", objects + cloudRequest.queryOf(query)))

  /** Whether the bucket is there, told by its listing: looking at the bucket itself takes a permission that few have. */
  const bucketProblem = (target: cloudRequest.Target): Effect.Effect<ObjectStoreError | undefined, ObjectStoreError> =>
    Effect.flatMap(
      list(target, { maxResults: "1", fields: "kind" }),
      (answer): Effect.Effect<ObjectStoreError | undefined, ObjectStoreError> => {
        if (answer.status === 404) return Effect.succeed(missingBucket(target, answer))
        // who may not list was still told that there is no such object
        if (answer.status === 401 || answer.status === 403) return Effect.succeed(undefined)
        return answer.status === 200
          ? Effect.as(decoded(target, gcsPage.decodePage(answer.body)), undefined)
          : Effect.flip(unsuccessful(target, answer))
      }
    )

  const missingBucket = (target: cloudRequest.Target, { body }: cloudRequest.Received): ObjectStoreError =>
    fail(
      target,
      "MissingContainer",
      gcsPage.decodeError(body) === undefined
        ? "was answered with 404 by something that is not Cloud Storage; check the endpoint."
        : `was answered with 404: there is no bucket ${JSON.stringify(bucket)}.`,
      { status: 404 }
    )

  /** The error of a missing object, unless it is the bucket that is missing. */
  const missingObject = (target: cloudRequest.Target): Effect.Effect<never, ObjectStoreError> =>
    Effect.flatMap(bucketProblem(target), (problem) =>
      Effect.fail(
        problem ?? fail(target, "NotFound", "was answered with 404: there is no such object.", { status: 404 })
      )
    )

  /** The error of any answer but a 404 of an object. */
  const unsuccessful = (
    target: cloudRequest.Target,
    answer: cloudRequest.Received,
    token?: string | undefined
  ): Effect.Effect<never, ObjectStoreError> => {
    const { status } = answer
    const said = cloudRequest.answered(status, cloudRequest.plainCode(gcsPage.decodeError(answer.body)?.code))
    if (status === 404) return Effect.fail(missingBucket(target, answer))
    if (status === 401) {
      return Effect.fail(fail(target, "Unauthorized", `${said}; give other credentials.`, { status }))
    }
    if (status === 403) {
      return Effect.fail(fail(target, "Unauthorized", `${said}; the credentials do not allow it.`, { status }))
    }
    if (status === 400 && token !== undefined) {
      return Effect.fail(fail(target, "StaleToken", `${said}; the listing must start over.`, { status }))
    }
    if (status === 400 || status === 414) return Effect.fail(fail(target, "InvalidRequest", `${said}.`, { status }))
    return cloudRequest.otherStatus(transport, target, answer, said)
  }

  return {
    identity,
    listPage: ({ maxKeys = 1000, prefix, token } = {}) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "listPage" }
        const answer = yield* list(target, {
          prefix,
          pageToken: token,
          maxResults: String(Math.min(maxKeys, 1000)),
          fields: `kind,nextPageToken,items(${gcsPage.objectFields})`
        })
        if (answer.status !== 200) return yield* unsuccessful(target, answer, token)
        const page = yield* decoded(target, gcsPage.decodePage(answer.body))
        const wrong = cloudRequest.contradiction(page, prefix ?? "", Math.min(maxKeys, 1000))
        if (wrong !== undefined) return yield* Effect.fail(fail(target, "Decode", `got ${wrong}.`))
        return { ...page, ...cloudRequest.clockOf(answer.headers) }
      }).pipe(traced("listPage")),

    head: (key) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "head", key }
        const url = `${yield* addressOf(target, key)}?fields=kind,${gcsPage.objectFields}`
        const answer = yield* send(requestOf(target, "GET", url))
        if (answer.status === 404) return yield* missingObject(target)
        if (answer.status !== 200) return yield* unsuccessful(target, answer)
        return yield* decoded(target, gcsPage.decodeObject(answer.body))
      }).pipe(traced("head")),

    get: (key) =>
      Stream.unwrapScoped(
        Effect.gen(function* () {
          const target: cloudRequest.Target = { operation: "get", key }
          const answer = yield* open(requestOf(target, "GET", `${yield* addressOf(target, key)}?alt=media`))
          if ("body" in answer) {
            return answer.status === 404 ? yield* missingObject(target) : yield* unsuccessful(target, answer)
          }
          if (answer.status !== 200 || answer.headers["x-goog-generation"] === undefined) {
            return yield* Effect.fail(fail(target, "Decode", "got something that is no object of Cloud Storage."))
          }
          return answer.content
        }).pipe(traced("get"))
      ),

    put: (key, content, { contentType = "application/octet-stream" } = {}) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "put", key }
        yield* cloudRequest.segment(transport, target, key)
        const query = cloudRequest.queryOf({
          uploadType: "media",
          name: key,
          fields: `kind,${gcsPage.objectFields}`
        })
        const answer = yield* send({
          ...requestOf(target, "POST", `${base}upload/storage/v1/b/${encodeURIComponent(bucket)}/o${query}`),
          headers: { ...cloudRequest.standardHeaders, "content-type": contentType },
          content: cloudRequest.bytesOf(content)
        })
        if (answer.status !== 200) return yield* unsuccessful(target, answer)
        return yield* decoded(target, gcsPage.decodeObject(answer.body))
      }).pipe(traced("put")),

    remove: (key) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "remove", key }
        const answer = yield* send(requestOf(target, "DELETE", yield* addressOf(target, key)))
        if (answer.status === 404) {
          const problem = yield* bucketProblem(target)
          return problem === undefined ? undefined : yield* Effect.fail(problem)
        }
        if (answer.status === 204 || (answer.status === 200 && answer.body.length === 0)) return
        return yield* unsuccessful(target, answer)
      }).pipe(traced("remove"))
  }
}

const requestOf = (target: cloudRequest.Target, method: cloudRequest.Request["method"], url: string) => ({
  ...target,
  method,
  url,
  headers: cloudRequest.standardHeaders
})
