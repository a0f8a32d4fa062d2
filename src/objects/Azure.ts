/**
 * A container of Azure Blob Storage as an `ObjectStore`, over its REST API and any `HttpClient`.
 *
 * Pages come in the order of their keys' UTF-8 bytes. A page that is cut or is no listing at all is an error, never an empty
 * page, and so is a container that is not there. Bodies, waits and pages are bounded.
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
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { AccessToken, AccessTokenError } from "./AccessToken.js"
import * as azureKey from "./azureKey.js"
import * as azurePage from "./azurePage.js"
import * as azureSigned from "./azureSigned.js"
import * as bearer from "./bearer.js"
import * as cloudRequest from "./cloudRequest.js"
import type { ObjectStoreError } from "./ObjectStore.js"
import * as ObjectStore from "./ObjectStore.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  AccountKey,
  /**
   * @category models
   * @since 0.1.0
   */
  ConnectionString,
  /**
   * @category models
   * @since 0.1.0
   */
  Sas
} from "./azureKey.js"

/**
 * How a container is opened.
 *
 * - an effect that gives an access token, such as `AzureCredentials.make()`, which is the normal chain of Azure. It runs when a
 *   token is first needed, before that one ends, and once more after a 401.
 * - {@link accountKey}, {@link sas} or {@link connectionString}.
 * - `"anonymous"`: for a public container.
 *
 * @category models
 * @since 0.1.0
 */
export type Credentials<R = never> =
  | "anonymous"
  | azureKey.AccountKey
  | azureKey.Sas
  | azureKey.ConnectionString
  | Effect.Effect<AccessToken, AccessTokenError, R>

/**
 * What {@link make} takes.
 *
 * - `container`: its name.
 * - `credentials`: how it is opened.
 * - `account`: the storage account [of the connection string, or of the endpoint].
 * - `endpoint`: where the account's blobs are [of the connection string, or https://ACCOUNT.blob.core.windows.net]; of Azurite
 *   http://127.0.0.1:10000/devstoreaccount1.
 * - `timeout`: bound of one request with its whole answer; of `get` until the content begins, and then between two parts of it
 *   [30 seconds].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> {
  readonly container: string
  readonly credentials: Credentials<R>
  readonly account?: string | undefined
  readonly endpoint?: string | URL | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * The key of a storage account, which may do everything in it.
 *
 * **Details** Requests are signed with it and with the time. Where the clock is more than 15 minutes off, it is set once by the
 * answer's own.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { Azure } from "effect-periscope/objects"
 *
 * const credentials = Config.map(Config.redacted("AZURE_STORAGE_KEY"), Azure.accountKey)
 * ```
 *
 * @category credentials
 * @since 0.1.0
 */
export const accountKey = (key: Redacted.Redacted): azureKey.AccountKey => ({ _tag: "AccountKey", key })

/**
 * A shared access signature: the query that somebody made who has the key. It needs `r` and `l` to read and list, `w` and `d`
 * to write and remove.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { Azure } from "effect-periscope/objects"
 *
 * const credentials = Config.map(Config.redacted("AZURE_STORAGE_SAS_TOKEN"), Azure.sas)
 * ```
 *
 * @category credentials
 * @since 0.1.0
 */
export const sas = (token: Redacted.Redacted): azureKey.Sas => ({ _tag: "Sas", token })

/**
 * A connection string, as the portal of Azure shows it: account, address and key or signature in one.
 *
 * **Details** `UseDevelopmentStorage=true` is Azurite on this machine.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { Azure } from "effect-periscope/objects"
 *
 * const ReportsLive = Azure.layerConfig({
 *   container: Config.succeed("reports"),
 *   credentials: Config.map(Config.redacted("AZURE_STORAGE_CONNECTION_STRING"), Azure.connectionString)
 * })
 * ```
 *
 * @category credentials
 * @since 0.1.0
 */
export const connectionString = (text: Redacted.Redacted): azureKey.ConnectionString => ({
  _tag: "ConnectionString",
  text
})

/**
 * Makes a store of a container. Nothing is asked of the container before it is used.
 *
 * **Details** `version` is there where the account keeps versions. A page holds up to 5000 objects; it may hold none and not be
 * the last. Folders of a hierarchical namespace are left out: they are no objects. The identity is the address of the
 * container.
 *
 * **Gotchas** A key with a backslash is refused: Azure would take it for a slash, and list another key than was put. A blob
 * with snapshots is not removed, which fails with 409.
 *
 * **Errors** `ObjectStoreError`. A name of a container that none can have, a key, signature or connection string that cannot be
 * read, an account that is not known, and an endpoint or timeout that is none throw at construction.
 *
 * **Source** Blob Service REST API, version 2021-12-02
 *
 * **Example**
 * ```ts
 * import { Effect, Redacted, Stream } from "effect"
 * import { Azure } from "effect-periscope/objects"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * const names = Azure.make({
 *   container: "reports",
 *   credentials: Azure.connectionString(Redacted.make("UseDevelopmentStorage=true"))
 * }).pipe(
 *   Effect.flatMap((store) => Stream.runForEach(store.list(), ({ key }) => Effect.log(key))),
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
  const { container } = options
  if (!/^(\$root|\$web|\$logs|(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*)$/.test(container)) {
    throw new Error(
      `Azure: \`container\` is ${JSON.stringify(container)}; it must be the name of a container alone, such as "reports".`
    )
  }
  const timeout = cloudRequest.checkTimeout("Azure", options.timeout)
  const { authorize, endpoint } = resolve(options, timeout)
  const identity = `${endpoint}/${container}`
  return Effect.gen(function* () {
    const client = yield* HttpClient.HttpClient
    const context = yield* Effect.context<R>()
    const transport = yield* Effect.provide(
      authorize(cloudRequest.make(client, identity, timeout, ["authorization"])),
      context
    )
    return ObjectStore.make(backend(identity, transport))
  })
}

/**
 * Provides a container as the `ObjectStore`.
 *
 * **Example**
 * ```ts
 * import { Layer } from "effect"
 * import { Azure } from "effect-periscope/objects"
 * import * as AzureCredentials from "effect-periscope/objects/AzureCredentials"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 *
 * const ReportsLive = Azure.layer({
 *   container: "reports",
 *   account: "contoso",
 *   credentials: AzureCredentials.make()
 * }).pipe(Layer.provide(NodeClient.layer()))
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
 * Provides a container as the `ObjectStore`, with its options from the configuration.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that {@link make} takes.
 *
 * **Example** the one of {@link connectionString}.
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
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "Azure: not valid.")
      })
    )
  )

// ---------------------------------------------------------------- credentials

interface Resolved<R> {
  readonly endpoint: string
  readonly authorize: (transport: cloudRequest.Transport) => Effect.Effect<cloudRequest.Transport, never, R>
}

/** Where the account is and how it is opened, from options that may say it in several ways. Refuses what cannot be right. */
const resolve = <R>(options: Options<R>, timeout: Duration.Duration): Resolved<R> => {
  const { credentials } = options
  if (Effect.isEffect(credentials)) {
    return {
      endpoint: endpointOf(options.endpoint, options.account),
      authorize: (transport) =>
        Effect.gen(function* () {
          const context = yield* Effect.context<R>()
          const tokens = yield* bearer.make(Effect.provide(credentials, context), timeout)
          return bearer.authorized(transport, tokens)
        })
    }
  }
  const connection =
    credentials !== "anonymous" && credentials._tag === "ConnectionString"
      ? azureKey.parseConnectionString(credentials.text)
      : { account: undefined, endpoint: undefined, credentials: credentials as azureKey.Plain }
  const account = options.account ?? connection.account
  const endpoint = endpointOf(options.endpoint ?? connection.endpoint, account)
  const authorize = plainly(connection.credentials, account, endpoint)
  return { endpoint, authorize: (transport) => Effect.sync(() => authorize(transport)) }
}

const plainly = (
  credentials: azureKey.Plain,
  account: string | undefined,
  endpoint: string
): ((transport: cloudRequest.Transport) => cloudRequest.Transport) => {
  if (credentials === "anonymous") return (transport) => transport
  if (credentials._tag === "Sas") {
    const token = azureKey.checkSas(credentials.token)
    return (transport) => azureSigned.withSas(transport, token)
  }
  const key = azureKey.checkKey(credentials.key)
  const owner = account ?? /^https?:\/\/([a-z0-9]+)\.blob\./.exec(endpoint)?.[1]
  if (owner === undefined) {
    throw new Error(
      "Azure: `account` is missing; a key signs with the name of its account, which `endpoint` does not tell."
    )
  }
  return (transport) => azureSigned.withKey(transport, owner, key)
}

const endpointOf = (endpoint: string | URL | undefined, account: string | undefined): string => {
  if (account !== undefined && !/^[a-z0-9]{3,24}$/.test(account)) {
    throw new Error(`Azure: \`account\` is ${JSON.stringify(account)}; it must be the name of a storage account alone.`)
  }
  if (endpoint !== undefined) return cloudRequest.checkEndpoint("Azure", endpoint)
  if (account !== undefined) return `https://${account}.blob.core.windows.net`
  throw new Error("Azure: `account` and `endpoint` are both missing; name the storage account.")
}

// ---------------------------------------------------------------- operations

const backend = (identity: string, transport: cloudRequest.Transport): ObjectStore.Backend => {
  const { fail, open, send } = transport
  const traced = cloudRequest.traced("Azure", identity)
  const addressOf = (target: cloudRequest.Target, key: string) =>
    key.includes("\\")
      ? Effect.fail(
          fail(target, "InvalidRequest", "cannot be asked for: Azure takes a backslash in a key for a slash.")
        )
      : Effect.map(cloudRequest.segment(transport, target, key), (segment) => `${identity}/${segment}`)

  const noBlob = (target: cloudRequest.Target) =>
    Effect.fail(fail(target, "Decode", "got something that is not of Azure Blob Storage; is the endpoint right?"))

  const unsuccessful = (
    target: cloudRequest.Target,
    answer: cloudRequest.Received,
    token?: string | undefined
  ): Effect.Effect<never, ObjectStoreError> => {
    const { status } = answer
    const code = azurePage.errorCode(answer.headers, answer.body)
    const said = cloudRequest.answered(status, code)
    const refuse = (reason: ObjectStore.Reason, what: string) =>
      Effect.fail(fail(target, reason, said + what, { status }))
    if (status === 404 && code === "BlobNotFound") return refuse("NotFound", ": there is no such blob.")
    if (status === 404) {
      return code === undefined
        ? refuse("MissingContainer", " by something that is not Azure Blob Storage; check the endpoint.")
        : refuse("MissingContainer", ": there is no such container, or it is not public.")
    }
    if (status === 401 || status === 403 || code === "PublicAccessNotPermitted") {
      return refuse("Unauthorized", "; the credentials are wrong, have ended or do not allow it.")
    }
    if (status === 400 && token !== undefined) return refuse("StaleToken", "; the listing must start over.")
    if (status === 400 || status === 414) return refuse("InvalidRequest", ".")
    return cloudRequest.otherStatus(transport, target, answer, said)
  }

  return {
    identity,
    listPage: ({ maxKeys = 1000, prefix, token } = {}) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "listPage" }
        const query = cloudRequest.queryOf({
          restype: "container",
          comp: "list",
          prefix,
          marker: token,
          maxresults: String(Math.min(maxKeys, 5000))
        })
        const answer = yield* send(requestOf(target, "GET", identity + query))
        if (answer.status !== 200) return yield* unsuccessful(target, answer, token)
        const page = azurePage.decodePage(answer.body)
        if (Either.isLeft(page)) return yield* Effect.fail(fail(target, page.left.reason, `${page.left.detail}.`))
        const wrong = cloudRequest.contradiction(page.right, prefix ?? "", Math.min(maxKeys, 5000))
        if (wrong !== undefined) return yield* Effect.fail(fail(target, "Decode", `got ${wrong}.`))
        return { ...page.right, ...cloudRequest.clockOf(answer.headers) }
      }).pipe(traced("listPage")),

    head: (key) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "head", key }
        const answer = yield* send(requestOf(target, "HEAD", yield* addressOf(target, key)))
        if (answer.status !== 200) return yield* unsuccessful(target, answer)
        return azurePage.decodeHeaders(key, answer.headers, answer.headers["content-length"]) ?? (yield* noBlob(target))
      }).pipe(traced("head")),

    get: (key) =>
      Stream.unwrapScoped(
        Effect.gen(function* () {
          const target: cloudRequest.Target = { operation: "get", key }
          const answer = yield* open(requestOf(target, "GET", yield* addressOf(target, key)))
          if ("body" in answer) return yield* unsuccessful(target, answer)
          return answer.status === 200 && answer.headers["x-ms-blob-type"] !== undefined
            ? answer.content
            : yield* noBlob(target)
        }).pipe(traced("get"))
      ),

    put: (key, content, { contentType = "application/octet-stream" } = {}) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "put", key }
        const bytes = cloudRequest.bytesOf(content)
        const answer = yield* send({
          ...requestOf(target, "PUT", yield* addressOf(target, key)),
          headers: { ...standardHeaders, "content-type": contentType, "x-ms-blob-type": "BlockBlob" },
          content: bytes
        })
        if (answer.status !== 201) return yield* unsuccessful(target, answer)
        return azurePage.decodeHeaders(key, answer.headers, String(bytes.length)) ?? (yield* noBlob(target))
      }).pipe(traced("put")),

    remove: (key) =>
      Effect.gen(function* () {
        const target: cloudRequest.Target = { operation: "remove", key }
        const answer = yield* send(requestOf(target, "DELETE", yield* addressOf(target, key)))
        if (answer.status === 202) {
          return answer.headers["x-ms-request-id"] === undefined ? yield* noBlob(target) : undefined
        }
        return yield* Effect.catchIf(
          unsuccessful(target, answer),
          ({ reason }) => reason === "NotFound",
          () => Effect.void
        )
      }).pipe(traced("remove"))
  }
}

/** A version of the API from 2021 on names keys percent-encoded where XML cannot hold them. */
const standardHeaders: cloudRequest.Request["headers"] = {
  ...cloudRequest.standardHeaders,
  "x-ms-version": "2021-12-02"
}

const requestOf = (target: cloudRequest.Target, method: cloudRequest.Request["method"], url: string) => ({
  ...target,
  method,
  url,
  headers: standardHeaders
})
