/**
 * Watches one document over HTTP, or the items of a JSON list: what an address answers, as Added, Modified and Removed.
 *
 * A change is reported when the content is another one, not when the server merely sends it again, and only after its body
 * arrived whole and passed the schema. A failed poll never removes anything. Bodies, redirects, pages and waits are bounded.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Change from "../core/Change.js"
import * as Source from "../core/Source.js"
import * as pages from "./collection.js"
import * as document from "./document.js"
import * as exchange from "./exchange.js"
import type { HttpSourceError } from "./httpSourceError.js"
import { toError } from "./httpSourceError.js"
import * as jsonBody from "./jsonBody.js"
import * as request from "./request.js"
import * as validators from "./validators.js"

export {
  /**
   * @category errors
   * @since 0.1.0
   */
  HttpSourceError
} from "./httpSourceError.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  PageResponse
} from "./collection.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  HeadersInput,
  /**
   * @category models
   * @since 0.1.0
   */
  RequestOptions
} from "./request.js"

/**
 * The document as it was at one moment. `etag`, `lastModified` and `contentType` are the headers as they were sent.
 *
 * **Details** As a schema it is a codec with the body as base64.
 *
 * **Example**
 * ```ts
 * import { HttpClient, HttpClientResponse } from "@effect/platform"
 * import { Effect } from "effect"
 * import { Change, Watcher } from "effect-periscope"
 * import { HttpSource } from "effect-periscope/http"
 *
 * const motd = HttpSource.make({ url: "https://example.com/motd.txt" })
 * const textOf = Change.map((item: HttpSource.HttpItem) => item.text)
 *
 * const server = HttpClient.make((request) =>
 *   Effect.succeed(HttpClientResponse.fromWeb(request, new Response("hello", { headers: { etag: '"1"' } })))
 * )
 * const changes = await Effect.runPromise(Effect.provideService(Watcher.once(motd), HttpClient.HttpClient, server))
 * changes.map(textOf) // => [Change.added("https://example.com/motd.txt", "hello")]
 * ```
 *
 * @category models
 * @since 0.1.0
 */
export class HttpItem extends Schema.Class<HttpItem>("effect-periscope/HttpItem")({
  /** As configured, without user info. */
  url: Schema.String,
  ...validators.StoredItem.fields
}) {
  /** The body as UTF-8, decoded at each use. */
  get text(): string {
    return jsonBody.text(this.body)
  }
  /** The body as JSON, parsed at each use. */
  get json(): Effect.Effect<unknown, HttpSourceError> {
    return Either.mapLeft(jsonBody.json(this.body), toError(exchange.publicUrl(this.url)))
  }
}

/**
 * What {@link make} takes: {@link RequestOptions}, and
 *
 * - `maxPreviousBytes`: larger bodies are not kept, their `previous` is unknown [1 MiB].
 * - `confirmRemovals`: how many 404 or 410 in a row make a removal [1]. Failed polls between them do not count.
 * - `revalidateAfter`: asks for the whole document, without validators, at least this often [never].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<E = never, R = never> extends request.RequestOptions<E, R>, document.DocumentOptions {}

/**
 * Makes a source of one document. With `schema` its values are the decoded JSON, else {@link HttpItem}s.
 *
 * **Details** The key of a change is the url without user info. 200 and 203 are content; equal bytes, or an equal weak ETag,
 * are no change whatever else the server says. 404 and 410 are a removal, if there was something. Everything else is an
 * {@link HttpSourceError} and changes nothing. Validators are sent back byte for byte, and are remembered only from content
 * that was delivered. State and undelivered changes hold bodies, but neither url, credentials nor request headers.
 *
 * **Gotchas** A change from A to B and back between two polls is not seen. A client made of `fetch` gets its `RequestInit`
 * from the context of the watch, not from that of its layer. Another address behind a redirect is asked without validators,
 * so a target that is signed anew for each request is downloaded at each poll.
 *
 * **Source** RFC 9110 §8.8, §13.1, §10.2.3
 *
 * **Example**
 * ```ts
 * import { Config, Schema } from "effect"
 * import { HttpSource } from "effect-periscope/http"
 *
 * const flags = HttpSource.make({
 *   url: "https://config.example.com/flags.json",
 *   bearerToken: Config.redacted("FLAGS_TOKEN"),
 *   schema: Schema.Record({ key: Schema.String, value: Schema.Boolean })
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make: {
  <A, I, RS = never, E = never, R = never>(
    options: Options<E, R> & { readonly schema: Schema.Schema<A, I, RS> }
  ): Source.Source<A, HttpSourceError | E, HttpClient.HttpClient | R | RS>
  <E = never, R = never>(
    options: Options<E, R> & { readonly schema?: undefined }
  ): Source.Source<HttpItem, HttpSourceError | E, HttpClient.HttpClient | R>
} = <A, I, RS, E, R>(options: Options<E, R> & { readonly schema?: Schema.Schema<A, I, RS> | undefined }): never => {
  const { schema } = options
  const requests = request.make(options, schema === undefined ? "*/*" : "application/json")
  const stored = document.make(options, requests)
  const deliver = (change: Change.Change<validators.StoredItem>): Change.Change<HttpItem> => ({
    ...Change.map(change, (item) => new HttpItem({ url: requests.url, ...item }, { disableValidation: true })),
    key: requests.url
  })
  // What is stored has neither url nor key: a query may hold a secret, and a checkpoint must not.
  const documents = Source.fromDefinition({
    ...stored.definition,
    change: (change: Change.Change<validators.StoredItem>) => Effect.sync(() => Option.some(deliver(change)))
  })
  // Both overloads in one: whether there is a schema decides what the values are.
  if (schema === undefined) return documents as never
  const decode = jsonBody.decoder(schema, options.parseJson)
  return Source.mapEffect(documents, (item) => Effect.mapError(decode(item.body), requests.fail)) as never
}

/**
 * What {@link collection} takes: {@link RequestOptions}, and how pages are read.
 *
 * @category models
 * @since 0.1.0
 */
export interface CollectionOptions<A, I, P, IP, E = never, R = never>
  extends request.RequestOptions<E, R>, pages.PagesOptions<A, I, P, IP> {}

/**
 * Makes a source of many items from a JSON list, in one page or several: Added, Modified and Removed for each item.
 *
 * **When to use** For a list that a server keeps: users, releases, pods. A log, which only grows, is better read with
 * `Source.fromLog`.
 *
 * **Details** One page, one poll, one batch. Keys are the user's. `Removed` needs a complete walk: a page that fails, does
 * not decode or leads in a circle removes nothing, and neither does a 404, a 204 or an empty answer that the guard holds
 * back. A list of one page is asked for with its validators: a 304 is a complete observation that costs next to nothing. The
 * pages of one walk may lead to another origin, but secrets do not go there.
 *
 * **Gotchas** One item that does not decode fails its page: what may be missing is best optional in `item`. A list that is
 * paged by position (`?page=2`) can skip an item while one before it is deleted, and show it twice while one is added; so a
 * removal waits for two walks. Page by key or continuation token where the server can, or in one page.
 *
 * **Errors** {@link HttpSourceError}, and `Source.ListingError`, after which the walk starts over. So it does when a later
 * page is answered with 400, 404 or 410, as with a token that has expired.
 *
 * **Source** RFC 8288 (Link)
 *
 * **Example**
 * ```ts
 * import { Config, Schema } from "effect"
 * import { HttpSource } from "effect-periscope/http"
 *
 * const Pod = Schema.Struct({
 *   metadata: Schema.Struct({ uid: Schema.String, name: Schema.String, resourceVersion: Schema.String })
 * })
 * const PodList = Schema.Struct({
 *   items: Schema.Array(Pod),
 *   metadata: Schema.Struct({ continue: Schema.optional(Schema.String) })
 * })
 *
 * const pods = HttpSource.collection({
 *   url: "https://kubernetes.default.svc/api/v1/pods?limit=500",
 *   bearerToken: Config.redacted("TOKEN"),
 *   page: PodList,
 *   items: (page) => page.items,
 *   next: ({ metadata }) => metadata.continue && `?limit=500&continue=${encodeURIComponent(metadata.continue)}`,
 *   item: Pod,
 *   key: (pod) => pod.metadata.uid,
 *   version: (pod) => pod.metadata.resourceVersion
 * })
 *
 * // where a page is the list itself, and the Link header names the next one
 * const Release = Schema.Struct({ id: Schema.Number, tag_name: Schema.String })
 * const releases = HttpSource.collection({
 *   url: "https://api.github.com/repos/Effect-TS/effect/releases",
 *   item: Release,
 *   key: ({ id }) => String(id)
 * })
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const collection: {
  <A, I, P, IP, E = never, R = never>(
    options: CollectionOptions<A, I, P, IP, E, R>
  ): Source.Source<A, HttpSourceError | Source.ListingError | E, HttpClient.HttpClient | R>
  <A, I, E = never, R = never>(
    options: Omit<CollectionOptions<A, I, ReadonlyArray<A>, ReadonlyArray<I>, E, R>, "page" | "items"> & {
      readonly page?: undefined
      readonly items?: undefined
    }
  ): Source.Source<A, HttpSourceError | Source.ListingError | E, HttpClient.HttpClient | R>
} = <A, I, E, R>(
  options: Omit<CollectionOptions<A, I, ReadonlyArray<A>, ReadonlyArray<I>, E, R>, "page" | "items"> & {
    readonly page?: Schema.Schema<ReadonlyArray<A>, ReadonlyArray<I>> | undefined
    readonly items?: ((page: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined
  }
): Source.Source<A, HttpSourceError | Source.ListingError | E, HttpClient.HttpClient | R> => {
  const { item, items = identity, page = Schema.Array(item) } = options
  return pages.make({ ...options, items, page }, request.make(options, "application/json"))
}

/**
 * What {@link layerConfig} reads from the configuration: address and credentials.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConfigOptions {
  readonly url: string | URL
  readonly name?: string | undefined
  readonly headers?: request.HeadersInput | undefined
  readonly bearerToken?: Redacted.Redacted | undefined
}

/**
 * Provides a source as a service, with its address and credentials from the configuration.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that the constructor takes.
 *
 * **Example**
 * ```ts
 * import { Config, Schema } from "effect"
 * import { Source } from "effect-periscope"
 * import { HttpSource } from "effect-periscope/http"
 *
 * const Flags = Schema.Record({ key: Schema.String, value: Schema.Boolean })
 * class AppFlags extends Source.Tag("app/Flags")<AppFlags, typeof Flags.Type, HttpSource.HttpSourceError>() {}
 *
 * const AppFlagsLive = HttpSource.layerConfig(
 *   AppFlags,
 *   { url: Config.string("FLAGS_URL"), bearerToken: Config.redacted("FLAGS_TOKEN") },
 *   (read) => HttpSource.make({ ...read, schema: Flags })
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig = <Self, A, E, A1 extends A, E1 extends E, R, C extends ConfigOptions>(
  tag: Context.Tag<Self, Source.Source<A, E>>,
  config: Config.Config.Wrap<C>,
  make: (read: C) => Source.Source<A1, E1, R>
): Layer.Layer<Self, ConfigError.ConfigError, R> =>
  Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (read) =>
      Effect.try({
        try: () => Source.layer(tag, make(read)),
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "HttpSource: not valid.")
      })
    )
  )
