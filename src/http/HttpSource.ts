/**
 * Watches one document over HTTP: what an address answers, as Added, Modified and Removed.
 *
 * A change is reported when the content is another one, not when the server merely sends it again, and only after its body
 * arrived whole and passed the schema. A failed poll never removes anything. Bodies, redirects and waits are bounded.
 *
 * @since 0.1.0
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as ConfigError from "effect/ConfigError"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Change from "../core/Change.js"
import * as Source from "../core/Source.js"
import * as exchange from "./exchange.js"
import * as jsonBody from "./jsonBody.js"
import * as validators from "./validators.js"

/**
 * A poll that failed. Every reason is a delay for a watch without `retry`, none ends it; with `retry` the schedule decides,
 * and `isRetryable` says whether the same request may succeed without anybody changing something.
 *
 * - `Network`: no connection, or it broke before the answer. Retryable.
 * - `Timeout`: no complete answer in time. Retryable.
 * - `Status`: an answer that is no content, such as 500 (retryable, as 408, 425, 429 and 2xx) or 400 (not).
 * - `Unauthorized`: 401 again with fresh credentials, or 403. Not retryable.
 * - `Truncated`: the body ended too early. Retryable.
 * - `TooLarge`: the body is larger than `maxBodyBytes`; the download was aborted. Not retryable.
 * - `Decode`: the body is not what the schema says, not JSON, or compressed in an unknown way. Retryable.
 * - `Redirect`: a circle, too many, or to no address. Not retryable.
 * - `InvalidRequest`: the credentials hold something that no header can carry. Not retryable.
 *
 * **Details** The message names the source and what to do. It holds no query, user info, header or body, and neither does
 * any other field; so there is no `cause` either.
 *
 * @category errors
 * @since 0.1.0
 */
export class HttpSourceError extends Schema.TaggedError<HttpSourceError>("effect-periscope/HttpSourceError")(
  "HttpSourceError",
  {
    reason: validators.Reason,
    source: Schema.String,
    message: Schema.String,
    status: Schema.optional(Schema.Number),
    /** How long the server asks to wait. */
    retryAfter: Schema.optional(Schema.Duration)
  }
) {
  /** Whether the same request may succeed later without anybody changing something. */
  get isRetryable(): boolean {
    return validators.isRetryable(this.reason, this.status)
  }
}

const toError =
  (source: string) =>
  ({ reason, detail, status, retryAfter }: validators.Failure): HttpSourceError =>
    new HttpSourceError({ reason, source, message: `${source} ${detail}`, status, retryAfter })

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
 * Headers of the request. Redacted ones are kept out of logs, and stay with the origin they are for.
 *
 * @category models
 * @since 0.1.0
 */
export type HeadersInput = Readonly<Record<string, string | Redacted.Redacted>>

/**
 * What {@link make} takes.
 *
 * - `url`: http or https. User info becomes basic authorization, unless another one is given.
 * - `name`: names the source in logs, metrics and checkpoints [the url without query, fragment and user info]. Give one
 *   where the url carries a signature that rotates: state is kept by the name.
 * - `headers`, `bearerToken`: values, or effects that run for each poll, and once more after a 401.
 * - `maxBodyBytes`: bound of one body, also after decompression [16 MiB].
 * - `maxPreviousBytes`: larger bodies are not kept, their `previous` is unknown [1 MiB].
 * - `confirmRemovals`: how many 404 or 410 in a row make a removal [1]. Failed polls between them do not count.
 * - `revalidateAfter`: asks for the whole document, without validators, at least this often [never].
 * - `maxRedirects`: [5], 0 follows none.
 * - `timeout`: bound of one poll, request and body [2 minutes].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<E = never, R = never> {
  readonly url: string | URL
  readonly name?: string | undefined
  readonly headers?: HeadersInput | Effect.Effect<HeadersInput, E, R> | undefined
  readonly bearerToken?: Redacted.Redacted | Effect.Effect<Redacted.Redacted, E, R> | undefined
  readonly maxBodyBytes?: number | undefined
  readonly maxPreviousBytes?: number | undefined
  readonly confirmRemovals?: number | undefined
  readonly revalidateAfter?: Duration.DurationInput | undefined
  readonly maxRedirects?: number | undefined
  readonly timeout?: Duration.DurationInput | undefined
}

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
  const settings = check(options, options.schema !== undefined)
  const documents = document(settings)
  // Both overloads in one: whether there is a schema decides what the values are.
  if (options.schema === undefined) return documents as never
  const decode = jsonBody.decoder(options.schema)
  return Source.mapEffect(documents, (item) => Effect.mapError(decode(item.body), toError(settings.name))) as never
}

interface Settings<E, R> extends validators.Policy {
  readonly url: string
  readonly name: string
  readonly identity: string
  readonly headers: Effect.Effect<exchange.RequestHeaders, E | HttpSourceError, R>
  readonly maxBodyBytes: number
  readonly maxRedirects: number
  readonly timeout: Duration.Duration | undefined
}

const document = <E, R>(
  settings: Settings<E, R>
): Source.Source<HttpItem, HttpSourceError | E, HttpClient.HttpClient | R> => {
  const { name, url } = settings
  const stored = Source.make<
    validators.DocumentState,
    validators.StoredItem,
    HttpSourceError | E,
    HttpClient.HttpClient | R,
    typeof validators.DocumentState.Encoded,
    typeof validators.StoredItem.Encoded
  >({
    name,
    identity: settings.identity,
    state: validators.DocumentState,
    item: validators.StoredItem,
    initial: validators.initial,
    rewind: validators.rewind,
    poll: poll(settings),
    timeout: settings.timeout,
    onTimeout: (timeout) =>
      toError(name)(validators.failure("Timeout", `did not answer within ${Duration.format(timeout)}.`))
  })
  const deliver = (change: Change.Change<validators.StoredItem>): Change.Change<HttpItem> => ({
    ...Change.map(change, (item) => new HttpItem({ url, ...item }, { disableValidation: true })),
    key: url
  })
  // What is stored has neither url nor key: a query may hold a secret, and a checkpoint must not.
  return Source.fromDefinition({
    ...stored.definition,
    change: (change) => Effect.sync(() => Option.some(deliver(change)))
  })
}

const poll = <E, R>(settings: Settings<E, R>) => {
  const { name, url } = settings
  const target = new URL(url)
  const attributes = {
    "periscope.source": name,
    "http.request.method": "GET",
    "server.address": target.hostname,
    "server.port": Number(target.port === "" ? (target.protocol === "https:" ? 443 : 80) : target.port),
    "url.scheme": target.protocol.slice(0, -1),
    "url.path": target.pathname
  }
  const ask = (headers: exchange.RequestHeaders, conditions: validators.Conditions) =>
    Effect.mapError(exchange.ask({ ...settings, headers, conditions }), toError(name))
  return Effect.fnUntraced(
    function* (state: validators.DocumentState) {
      const nowMillis = yield* Clock.currentTimeMillis
      const conditions = validators.conditions(state, nowMillis, settings.revalidateMillis)
      let headers = yield* settings.headers
      let answer = yield* ask(headers, conditions)
      if (answer.status === 401) {
        headers = yield* settings.headers
        answer = yield* ask(headers, conditions)
      }
      let decision = validators.decide(name, state, answer, nowMillis, settings)
      if (decision._tag === "AskAgain") {
        answer = yield* ask(withoutConditions(headers), validators.unconditional)
        decision = validators.decide(name, state, answer, nowMillis, settings)
      }
      yield* Effect.annotateCurrentSpan("http.response.status_code", answer.status)
      if (decision._tag === "Observed") return { changes: decision.changes, state: decision.state }
      return yield* toError(name)(
        decision._tag === "Failure" ? decision : validators.statusFailure(answer.status, answer.headers, nowMillis)
      )
    },
    Effect.withSpan("HttpSource.poll", { kind: "client", attributes, captureStackTrace: false })
  )
}

const withoutConditions = ({ values, secret }: exchange.RequestHeaders): exchange.RequestHeaders => ({
  values: Object.fromEntries(Object.entries(values).filter(([name]) => !/^if-/.test(name))),
  secret
})

const defaults = {
  maxBodyBytes: 16 * 1024 * 1024,
  maxPreviousBytes: 1024 * 1024,
  confirmRemovals: 1,
  maxRedirects: 5
}

const check = <E, R>(options: Options<E, R>, wantsJson: boolean): Settings<E, R> => {
  const url = checkUrl(options.url)
  const name = options.name ?? exchange.publicUrl(url)
  if (name === "") return refuse("`name` is empty; leave it out or give one that tells this source from others.")
  const authorization = basicAuthorization(url)
  const hasQuery = options.name === undefined && url.search !== ""
  const identity = hasQuery ? `http:${name}#${exchange.digest(url.search).slice(0, 16)}` : `http:${name}`
  url.hash = url.username = url.password = ""
  return {
    url: url.href,
    name,
    identity,
    headers: requestHeaders(options, name, {
      accept: wantsJson ? "application/json" : "*/*",
      // We want the document itself; fetch would ask for a compressed one.
      "accept-encoding": "identity",
      "user-agent": "effect-periscope",
      ...authorization
    }),
    maxBodyBytes: checkNumber("maxBodyBytes", options.maxBodyBytes ?? defaults.maxBodyBytes, 1),
    maxPreviousBytes: checkNumber("maxPreviousBytes", options.maxPreviousBytes ?? defaults.maxPreviousBytes, 0),
    confirmRemovals: checkNumber("confirmRemovals", options.confirmRemovals ?? defaults.confirmRemovals, 1),
    maxRedirects: checkNumber("maxRedirects", options.maxRedirects ?? defaults.maxRedirects, 0),
    revalidateMillis:
      options.revalidateAfter === undefined
        ? null
        : Duration.toMillis(checkDuration("revalidateAfter", options.revalidateAfter)),
    timeout: options.timeout === undefined ? undefined : checkDuration("timeout", options.timeout)
  }
}

const refuse = (sentence: string): never => {
  throw new Error(`HttpSource: ${sentence}`)
}

const checkUrl = (input: string | URL): URL => {
  if (!URL.canParse(String(input))) {
    // The value may hold a password, so it is not shown.
    return refuse("`url` is not a valid address; write it whole, such as https://example.com/config.json.")
  }
  const url = new URL(input)
  return url.protocol === "http:" || url.protocol === "https:"
    ? url
    : refuse(`\`url\` has the scheme ${url.protocol}//; only http:// and https:// can be watched.`)
}

const checkNumber = (option: string, value: number, min: number): number =>
  Number.isSafeInteger(value) && value >= min
    ? value
    : refuse(`\`${option}\` is ${value}; it must be a whole number of ${min} or more.`)

const checkDuration = (option: string, input: Duration.DurationInput): Duration.Duration => {
  const duration = Duration.decodeUnknown(input)
  return Option.isSome(duration) && Duration.toMillis(duration.value) > 0
    ? duration.value
    : refuse(`\`${option}\` is ${String(input)}; it must be a duration above zero, such as "30 seconds".`)
}

const basicAuthorization = ({ username, password }: URL): { readonly authorization?: string } => {
  if (username === "" && password === "") return {}
  const plain = (part: string) => Option.getOrElse(Option.liftThrowable(decodeURIComponent)(part), () => part)
  return { authorization: `Basic ${Buffer.from(`${plain(username)}:${plain(password)}`).toString("base64")}` }
}

const requestHeaders = <E, R>(
  options: Options<E, R>,
  name: string,
  standard: Readonly<Record<string, string>>
): Settings<E, R>["headers"] => {
  const { headers = {}, bearerToken } = options
  if (!Effect.isEffect(headers)) {
    const problem = headerProblem(headers)
    if (problem !== undefined) return refuse(`${problem}.`)
    if (bearerToken !== undefined && Object.keys(headers).some((key) => key.toLowerCase() === "authorization")) {
      return refuse("`bearerToken` and an Authorization header are both given; keep one of them.")
    }
  }
  return Effect.gen(function* () {
    const own = Effect.isEffect(headers) ? yield* headers : headers
    const token = Effect.isEffect(bearerToken) ? yield* bearerToken : bearerToken
    // A token read from a file often ends in a line break.
    const all: HeadersInput =
      token === undefined ? own : { ...own, authorization: Redacted.make(`Bearer ${Redacted.value(token).trim()}`) }
    const problem = headerProblem(all)
    if (problem !== undefined) {
      return yield* toError(name)(validators.failure("InvalidRequest", `cannot be asked: ${problem}.`))
    }
    const values: Record<string, string> = { ...standard }
    const secret = new Set<string>()
    for (const [key, value] of Object.entries(all)) {
      values[key.toLowerCase()] = plainValue(value)
      if (Redacted.isRedacted(value)) secret.add(key.toLowerCase())
    }
    return { values, secret }
  })
}

const plainValue = (value: string | Redacted.Redacted): string =>
  Redacted.isRedacted(value) ? Redacted.value(value) : value

const headerProblem = (headers: HeadersInput): string | undefined => {
  for (const [name, value] of Object.entries(headers)) {
    const problem = exchange.headerProblem(name, plainValue(value))
    if (problem !== undefined) return problem
  }
  return undefined
}

/**
 * What {@link layerConfig} reads from the configuration.
 *
 * @category models
 * @since 0.1.0
 */
export interface ConfigOptions extends Omit<Options, "headers" | "bearerToken" | "url"> {
  readonly url: string
  readonly headers?: HeadersInput | undefined
  readonly bearerToken?: Redacted.Redacted | undefined
}

/**
 * Provides a source as a service, with its address and credentials from the configuration.
 *
 * **Errors** `ConfigError` when something is missing, or is nothing that {@link make} takes.
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
 *   { schema: Flags }
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: {
  <Self, A, A1 extends A, I, RS = never, E = never>(
    tag: Context.Tag<Self, Source.Source<A, E | HttpSourceError>>,
    config: Config.Config.Wrap<ConfigOptions>,
    options: { readonly schema: Schema.Schema<A1, I, RS> }
  ): Layer.Layer<Self, ConfigError.ConfigError, HttpClient.HttpClient | RS>
  <Self, E = never>(
    tag: Context.Tag<Self, Source.Source<HttpItem, E | HttpSourceError>>,
    config: Config.Config.Wrap<ConfigOptions>
  ): Layer.Layer<Self, ConfigError.ConfigError, HttpClient.HttpClient>
} = (<Self, A>(
  tag: Context.Tag<Self, Source.Source<A | HttpItem, HttpSourceError>>,
  config: Config.Config.Wrap<ConfigOptions>,
  options?: { readonly schema: Schema.Schema<A> }
): Layer.Layer<Self, ConfigError.ConfigError, HttpClient.HttpClient> => {
  const source = (read: ConfigOptions): Source.Source<A | HttpItem, HttpSourceError, HttpClient.HttpClient> =>
    options === undefined ? make(read) : make({ ...read, ...options })
  return Layer.unwrapEffect(
    Effect.flatMap(Config.unwrap(config), (read) =>
      Effect.try({
        try: () => Source.layer(tag, source(read)),
        catch: (error) => ConfigError.InvalidData([], error instanceof Error ? error.message : "HttpSource: not valid.")
      })
    )
  )
}) as never
