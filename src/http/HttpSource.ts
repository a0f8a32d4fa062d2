/**
 * Watches one document over HTTP: what an address answers, as Added, Modified and Removed.
 *
 * A change is reported when the content is another one, not when the server merely sends it again, and only after its body
 * arrived whole and passed the schema. A failed poll never removes anything. Bodies, redirects and waits are bounded.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Change from "../core/Change.js"
import * as Source from "../core/Source.js"
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
