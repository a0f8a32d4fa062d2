/**
 * An object store over a WebDAV server: each file is an object, its key the path behind the address.
 *
 * It asks folder by folder, as most servers refuse to list a whole tree at once, and lists in the order of the keys' UTF-8 bytes. What
 * the server says of a page is the whole answer or an error.
 *
 * @since 0.1.0
 */
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as Tracer from "effect/Tracer"
import type { Exchange, HeadersInput, Request, Response } from "./davExchange.js"
import { isSuccess, makeExchange } from "./davExchange.js"
import type { DavTree, Found } from "./davTree.js"
import { makeDavTree } from "./davTree.js"
import type { ObjectStoreError } from "./ObjectStore.js"
import * as ObjectStore from "./ObjectStore.js"
import type { Operation } from "./storeFailure.js"
import { isName, makeListPage } from "./treeListing.js"

/**
 * Which folder of which server, and how.
 *
 * - `url`: http or https, the address of the folder. User info becomes `basicAuth`.
 * - `identity`: names the store [the address without user info].
 * - `basicAuth`, `bearerToken`, `headers`: values, or effects that run for each request, and once more after a 401. Redacted
 *   headers are kept out of logs.
 * - `timeout`: bound of one request [30 seconds]; of a download until its headers, and of each wait for its next part.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<R = never> {
  readonly url: string | URL
  readonly identity?: string | undefined
  readonly basicAuth?: BasicAuth | Effect.Effect<BasicAuth, unknown, R> | undefined
  readonly bearerToken?: Redacted.Redacted | Effect.Effect<Redacted.Redacted, unknown, R> | undefined
  readonly headers?:
    | Readonly<Record<string, string | Redacted.Redacted>>
    | Effect.Effect<Readonly<Record<string, string | Redacted.Redacted>>, unknown, R>
    | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * A user and a password, for basic authorization.
 *
 * @category models
 * @since 0.1.0
 */
export interface BasicAuth {
  readonly username: string
  readonly password: Redacted.Redacted
}

/**
 * Makes a store over a folder of a WebDAV server.
 *
 * **Details** A page holds 10,000 objects at most; each folder is one request (PROPFIND, depth 1), and the walks of the last 64 pages
 * are kept open. `put` makes the folders on the way (MKCOL). `remove` looks first, as a DELETE of a folder takes everything in it.
 * Sizes and times come with the listing. `W/` in front of an ETag is dropped: Apache sends it for the first second only, and that is no
 * change.
 *
 * **Gotchas** Keys are refused as those of a local folder are: `a` beside `a/b`, `.` and `..`, nothing between slashes, names of more than
 * 255 bytes. nginx makes ETags of whole seconds and the size: a change that keeps both is not seen. The entries of one folder a level are
 * held in memory; one that takes the server more than 64 MiB to list, some 100,000 entries, cannot be listed. Between looking and
 * DELETE a folder could take the file's place.
 *
 * **Errors** `MissingContainer`: no such folder, or no WebDAV there: a page, a redirect. `Unauthorized`: 401 again with fresh
 * credentials, or 403, also of one entry: what is in it is not known, so the listing fails. `Truncated`: an answer that was cut.
 * `Decode`: one that cannot be read, or has more than 64 MiB. A timeout that is not above zero, and an address that is none or has a
 * query, throw at construction.
 *
 * **Source** RFC 4918
 *
 * **Example**
 * ```ts
 * import { Effect, Redacted, Stream } from "effect"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 * import { WebDav } from "effect-periscope/objects"
 *
 * const program = Effect.gen(function* () {
 *   const store = yield* WebDav.make({
 *     url: "https://files.example.com/dav/reports/",
 *     basicAuth: { username: "reader", password: Redacted.make("secret") }
 *   })
 *   return yield* Stream.runCollect(store.list({ prefix: "2026/" }))
 * }).pipe(Effect.provide(NodeClient.layer()))
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <R = never>(
  options: Options<R>
): Effect.Effect<Context.Tag.Service<ObjectStore.ObjectStore>, never, HttpClient.HttpClient | R> => {
  const settings = check(options)
  return Effect.gen(function* () {
    const exchange = makeExchange({
      identity: settings.identity,
      timeout: settings.timeout,
      client: yield* HttpClient.HttpClient,
      headers: Effect.provide(settings.headers, yield* Effect.context<R>()),
      canRenew: settings.canRenew
    })
    return ObjectStore.make(backend(settings.identity, exchange, makeDavTree(exchange, settings.url)))
  })
}

/**
 * Provides a store over a folder of a WebDAV server.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer, Redacted, Stream } from "effect"
 * import * as NodeClient from "effect-periscope/http/NodeClient"
 * import { ObjectStore, WebDav } from "effect-periscope/objects"
 *
 * const ReportsLive = WebDav.layer({
 *   url: "https://files.example.com/dav/reports/",
 *   bearerToken: Redacted.make("token")
 * }).pipe(Layer.provide(NodeClient.layer()))
 *
 * const count = Effect.flatMap(ObjectStore.ObjectStore, (store) => Stream.runCount(store.list()))
 * const program = Effect.provide(count, ReportsLive)
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
 * What {@link layerConfig} reads from the configuration.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConfigOptions {
  readonly url: string | URL
  readonly identity?: string | undefined
  readonly basicAuth?: BasicAuth | undefined
  readonly bearerToken?: Redacted.Redacted | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

/**
 * Provides a store whose address and credentials the configuration holds.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that the constructor takes.
 *
 * **Example**
 * ```ts
 * import { Config } from "effect"
 * import { WebDav } from "effect-periscope/objects"
 *
 * const ReportsLive = WebDav.layerConfig({
 *   url: Config.string("DAV_URL"),
 *   basicAuth: { username: Config.string("DAV_USER"), password: Config.redacted("DAV_PASSWORD") }
 * })
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = (
  config: Config.Config.Wrap<ConfigOptions>
): Layer.Layer<ObjectStore.ObjectStore, ConfigError.ConfigError, HttpClient.HttpClient> =>
  Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (options) =>
      Effect.try({
        try: () => layer(options),
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "WebDav: not valid.")
      })
    )
  )

const refuse = (sentence: string): never => {
  throw new Error(`WebDav: ${sentence}`)
}

const checkUrl = (input: string | URL): URL => {
  // the value may hold a password, so it is not shown
  if (!URL.canParse(String(input))) {
    return refuse("`url` is not a valid address; write it whole, such as https://example.com/dav/.")
  }
  const url = new URL(input)
  if (url.protocol !== "http:" && url.protocol !== "https:") return refuse("`url` must begin with http:// or https://.")
  if (url.search !== "") return refuse("`url` has a query, which the address of a folder cannot have.")
  url.hash = ""
  if (!url.pathname.endsWith("/")) url.pathname += "/"
  return url
}

const basicOf = ({ password, username }: BasicAuth): Redacted.Redacted =>
  Redacted.make(`Basic ${Buffer.from(`${username}:${Redacted.value(password)}`).toString("base64")}`)

const plain = (part: string): string => Option.getOrElse(Option.liftThrowable(decodeURIComponent)(part), () => part)

const check = <R>(options: Options<R>) => {
  const url = checkUrl(options.url)
  const { basicAuth: givenAuth, bearerToken, headers = {} } = options
  const hasUser = url.username !== "" || url.password !== ""
  const basicAuth =
    givenAuth ?? (hasUser ? { username: plain(url.username), password: Redacted.make(plain(url.password)) } : undefined)
  if (basicAuth !== undefined && bearerToken !== undefined) {
    return refuse("`bearerToken` and a user are both given; keep one of them.")
  }
  url.username = url.password = ""
  const timeout = Duration.decodeUnknown(options.timeout ?? "30 seconds")
  if (Option.isNone(timeout) || !(Duration.toMillis(timeout.value) > 0)) {
    return refuse(`\`timeout\` is ${String(options.timeout)}; it must be a duration above zero, such as "30 seconds".`)
  }
  const all: Effect.Effect<HeadersInput, unknown, R> = Effect.gen(function* () {
    const own: HeadersInput = Effect.isEffect(headers) ? yield* headers : headers
    if (basicAuth !== undefined) {
      return { ...own, authorization: basicOf(Effect.isEffect(basicAuth) ? yield* basicAuth : basicAuth) }
    }
    if (bearerToken === undefined) return own
    const token = Effect.isEffect(bearerToken) ? yield* bearerToken : bearerToken
    // a token read from a file often ends in a line break
    return { ...own, authorization: Redacted.make(`Bearer ${Redacted.value(token).trim()}`) }
  })
  return {
    url,
    identity: options.identity ?? url.href,
    timeout: timeout.value,
    headers: all,
    canRenew: [givenAuth, bearerToken, headers].some(Effect.isEffect)
  }
}

const backend = (identity: string, exchange: Exchange, tree: DavTree): ObjectStore.Backend => {
  const { fail, refused, send } = exchange
  const span: Tracer.SpanOptions = { attributes: { "periscope.store": identity }, captureStackTrace: false }

  const requestOf = (operation: Operation, key: string, method: Request["method"], url = tree.urlOf(key)): Request => ({
    operation,
    key,
    method,
    url
  })

  const checked = (operation: Operation, key: string): Effect.Effect<void, ObjectStoreError> =>
    key.split("/").every(isName)
      ? Effect.void
      : Effect.fail(
          fail(
            requestOf(operation, key, "GET", ""),
            "InvalidRequest",
            "was given a key that is no path: a segment is empty, a dot or too long."
          )
        )

  const missing = (operation: Operation, key: string): Effect.Effect<never, ObjectStoreError> =>
    Effect.zipRight(
      tree.checkRoot(operation, key),
      Effect.fail(fail(requestOf(operation, key, "GET", ""), "NotFound", `found no object ${JSON.stringify(key)}.`))
    )

  const head = (operation: Operation, key: string) =>
    Effect.flatMap(tree.look(operation, key), (found: Found | undefined) =>
      found?._tag === "File" ? Effect.succeed(found.meta) : missing(operation, key)
    )

  const get = (
    key: string
  ): Effect.Effect<Stream.Stream<Uint8Array, ObjectStoreError>, ObjectStoreError, Scope.Scope> =>
    Effect.gen(function* () {
      yield* checked("get", key)
      const request = requestOf("get", key, "GET")
      const response = yield* exchange.open(request)
      if (response.status === 200) return whole(request, response)
      if (response.status === 404 || response.status === 410 || tree.isFolderRedirect(request, response)) {
        return yield* missing("get", key)
      }
      return yield* refused(request, response)
    })

  /** The body, and an error where it is shorter than announced. */
  const whole = (request: Request, response: Response): Stream.Stream<Uint8Array, ObjectStoreError> => {
    const announced = response.headers["content-length"]
    if (announced === undefined || response.headers["content-encoding"] !== undefined) {
      return exchange.body(request, response)
    }
    return Stream.suspend(() => {
      let size = 0
      const counted = Stream.map(exchange.body(request, response), (part) => {
        size += part.length
        return part
      })
      const end = Stream.suspend(() =>
        size === Number(announced)
          ? Stream.empty
          : Stream.fail(fail(request, "Truncated", `got ${size} of ${announced} bytes.`))
      )
      return Stream.concat(counted, end)
    })
  }

  const conflicts = new Set([404, 409])

  /** Sends a request that has no answer but its status. */
  const status = (request: Request, accepted: (status: number, response: Response) => boolean) =>
    send(request, (response) =>
      accepted(response.status, response)
        ? Effect.as(Effect.ignore(Stream.runDrain(exchange.body(request, response))), response.status)
        : refused(request, response)
    )

  /** Makes the folders on the way, those that are there already too. */
  const makeFolders = (key: string) => {
    const segments = key.split("/").slice(0, -1)
    return Effect.forEach(
      segments,
      (_, n) => {
        const folder = segments.slice(0, n + 1).join("/")
        const make = status(
          requestOf("put", key, "MKCOL", tree.urlOf(`${folder}/`)),
          (answered) => isSuccess(answered) || answered === 405
        )
        // Apache answers 403 where another one has just made it
        return Effect.catchAll(make, (error) =>
          Effect.flatMap(tree.look("put", folder), (found) =>
            found?._tag === "Folder" ? Effect.void : Effect.fail(error)
          )
        )
      },
      { discard: true }
    )
  }

  const put = (key: string, content: Uint8Array | string, options?: ObjectStore.PutOptions) =>
    Effect.gen(function* () {
      yield* checked("put", key)
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content
      const body = { bytes, contentType: options?.contentType ?? "application/octet-stream" }
      const request: Request = { ...requestOf("put", key, "PUT"), body }
      const isTaken = (answered: number, response: Response) =>
        answered === 405 || tree.isFolderRedirect(request, response)
      const write = status(
        request,
        (answered, response) => isSuccess(answered) || conflicts.has(answered) || isTaken(answered, response)
      )
      let answered = yield* write
      if (conflicts.has(answered)) {
        yield* tree.checkRoot("put", key)
        yield* makeFolders(key)
        answered = yield* write
      }
      if (!isSuccess(answered)) {
        const detail = `was answered with ${answered}; a folder has this name, or a file is where the key needs a folder.`
        return yield* fail(request, "InvalidRequest", detail, { status: answered })
      }
      return yield* head("put", key)
    })

  const remove = (key: string) =>
    Effect.gen(function* () {
      yield* checked("remove", key)
      const found = yield* tree.look("remove", key)
      if (found === undefined) return yield* tree.checkRoot("remove", key)
      // all that is in a folder would go with it
      if (found._tag === "Folder") return
      const request = requestOf("remove", key, "DELETE")
      yield* status(request, (answered) => (isSuccess(answered) && answered !== 207) || conflicts.has(answered))
    })

  const listPage = makeListPage({
    identity,
    start: Effect.succeed(""),
    check: Effect.as(tree.checkRoot("listPage"), ""),
    read: tree.read
  })

  return {
    identity,
    listPage: (options) => Effect.withSpan(listPage(options), "WebDav.listPage", span),
    head: (key) => Effect.withSpan(Effect.zipRight(checked("head", key), head("head", key)), "WebDav.head", span),
    get: (key) => Stream.withSpan(Stream.unwrapScoped(get(key)), "WebDav.get", span),
    put: (key, content, options) => Effect.withSpan(put(key, content, options), "WebDav.put", span),
    remove: (key) => Effect.withSpan(remove(key), "WebDav.remove", span)
  }
}
