/**
 * How an HTTP source asks: its options, checked once, and one question with credentials that are renewed after a 401.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import * as exchange from "./exchange.js"
import type { HttpSourceError } from "./httpSourceError.js"
import { toError } from "./httpSourceError.js"
import * as transport from "./transport.js"
import * as validators from "./validators.js"

/**
 * Headers of the request. Redacted ones are kept out of logs, and stay with the origin they are for.
 */
export type HeadersInput = Readonly<Record<string, string | Redacted.Redacted>>

/**
 * How to ask, for a document and for a collection.
 *
 * - `url`: http or https. User info becomes basic authorization, unless another one is given.
 * - `name`: names the source in logs, metrics and checkpoints [the url without query, fragment and user info]. Give one
 *   where the url carries a signature that rotates: state is kept by the name.
 * - `headers`, `bearerToken`: values, or effects that run for each poll, and once more after a 401.
 * - `maxBodyBytes`: bound of one body, also after decompression [16 MiB].
 * - `maxRedirects`: [5], 0 follows none.
 * - `timeout`: bound of one poll, request and body [2 minutes].
 * - `parseJson`: how a text is read as JSON; may throw [`JSON.parse`, which rounds numbers above 2^53].
 */
export interface RequestOptions<E = never, R = never> {
  readonly url: string | URL
  readonly name?: string | undefined
  readonly headers?: HeadersInput | Effect.Effect<HeadersInput, E, R> | undefined
  readonly bearerToken?: Redacted.Redacted | Effect.Effect<Redacted.Redacted, E, R> | undefined
  readonly maxBodyBytes?: number | undefined
  readonly maxRedirects?: number | undefined
  readonly timeout?: Duration.DurationInput | undefined
  readonly parseJson?: ((text: string) => unknown) | undefined
}

/** One question; `withoutValidators`: also without those that the user's own headers hold. */
export interface Question {
  readonly url: string
  readonly conditions: validators.Conditions | "withoutValidators"
}

export interface Requests<E, R> {
  /** Without user info and fragment. */
  readonly url: string
  readonly name: string
  /** What a checkpoint is bound to: the name, or with a query in the url a digest of that too. */
  readonly identity: string
  readonly timeout: Duration.Duration | undefined
  readonly onTimeout: (timeout: Duration.Duration) => HttpSourceError
  readonly fail: (failure: validators.Failure) => HttpSourceError
  /** The failure that a status stands for. */
  readonly failStatus: (answer: validators.Answer) => Effect.Effect<never, HttpSourceError>
  readonly ask: (question: Question) => Effect.Effect<exchange.Answered, HttpSourceError | E, R | HttpClient.HttpClient>
  /** Puts an observation into a span of that name. */
  readonly traced: <B, E2, R2>(name: string, effect: Effect.Effect<B, E2, R2>) => Effect.Effect<B, E2, R2>
}

export const make = <E, R>(options: RequestOptions<E, R>, accept: string): Requests<E, R> => {
  const url = checkUrl(options.url)
  const name = options.name ?? exchange.publicUrl(url)
  if (name === "") return refuse("`name` is empty; leave it out or give one that tells this source from others.")
  const authorization = basicAuthorization(url)
  const hasQuery = options.name === undefined && url.search !== ""
  const identity = hasQuery ? `${name}#${exchange.digest(url.search).slice(0, 16)}` : name
  url.hash = url.username = url.password = ""
  const own = transport.address(url.href)
  const fail = toError(name)
  const headers = requestHeaders(options, fail, {
    accept,
    // We want the document itself; fetch would ask for a compressed one.
    "accept-encoding": "identity",
    "user-agent": "effect-periscope",
    ...authorization
  })
  const limits = {
    maxBodyBytes: checkNumber("maxBodyBytes", options.maxBodyBytes ?? 16 * 1024 * 1024, 1),
    maxRedirects: checkNumber("maxRedirects", options.maxRedirects ?? 5, 0)
  }
  const span: Tracer.SpanOptions = { kind: "client", attributes: attributes(name, url), captureStackTrace: false }
  return {
    url: own.href,
    name,
    identity,
    timeout: options.timeout === undefined ? undefined : checkDuration("timeout", options.timeout),
    onTimeout: (timeout) => fail(validators.failure("Timeout", `did not answer within ${Duration.format(timeout)}.`)),
    fail,
    failStatus: (answer) =>
      Effect.flatMap(Clock.currentTimeMillis, (nowMillis) =>
        Effect.fail(fail(validators.statusFailure(answer.status, answer.headers, nowMillis)))
      ),
    ask: ({ conditions, url }) => {
      const address = url === own.href ? own : transport.address(url)
      const isBare = conditions === "withoutValidators"
      // what is secret stays with the origin that it is for
      const isElsewhere = address.origin !== own.origin
      const once = Effect.flatMap(headers, (all) => {
        const withSecrets = isBare ? exchange.withoutValidators(all) : all
        const answered = exchange.ask({
          address,
          headers: isElsewhere ? exchange.withoutSecrets(withSecrets) : withSecrets,
          conditions: isBare ? validators.unconditional : conditions,
          ...limits
        })
        return Effect.mapError(answered, fail)
      })
      return Effect.flatMap(once, (answered) =>
        answered.answer.status === 401 ? Effect.flatMap(once, annotated) : annotated(answered)
      )
    },
    traced: (spanName, effect) => ifTraced(effect, Effect.withSpan(effect, spanName, span))
  }
}

/** A watcher has a span around each poll where anybody looks at them: without one, none is made. */
const ifTraced = <B, E, R, E2, R2>(
  plain: Effect.Effect<B, E, R>,
  traced: Effect.Effect<B, E2, R2>
): Effect.Effect<B, E | E2, R | R2> =>
  Effect.contextWithEffect((context: Context.Context<never>): Effect.Effect<B, E | E2, R | R2> =>
    Option.isSome(Context.getOption(context, Tracer.ParentSpan)) ? traced : plain
  )

const annotated = (answered: exchange.Answered): Effect.Effect<exchange.Answered> => {
  const plain = Effect.succeed(answered)
  return ifTraced(
    plain,
    Effect.zipRight(Effect.annotateCurrentSpan("http.response.status_code", answered.answer.status), plain)
  )
}

const attributes = (name: string, url: URL) => ({
  "periscope.source": name,
  "http.request.method": "GET",
  "server.address": url.hostname,
  "server.port": Number(url.port === "" ? (url.protocol === "https:" ? 443 : 80) : url.port),
  "url.scheme": url.protocol.slice(0, -1),
  "url.path": url.pathname
})

export const refuse = (sentence: string): never => {
  throw new Error(`HttpSource: ${sentence}`)
}

const checkUrl = (input: string | URL): URL => {
  if (!URL.canParse(String(input))) {
    // The value may hold a password, so it is not shown.
    return refuse("`url` is not a valid address; write it whole, such as https://example.com/config.json.")
  }
  const url = new URL(input)
  if (url.protocol === "http:" || url.protocol === "https:") return url
  // without slashes it may be the user name of an address that lacks its scheme
  const scheme = url.href.startsWith(`${url.protocol}//`) ? `the scheme ${url.protocol}//` : "another scheme"
  return refuse(`\`url\` has ${scheme}; only http:// and https:// can be watched.`)
}

export const checkNumber = (option: string, value: number, min: number): number =>
  Number.isSafeInteger(value) && value >= min
    ? value
    : refuse(`\`${option}\` is ${value}; it must be a whole number of ${min} or more.`)

export const checkDuration = (option: string, input: Duration.DurationInput): Duration.Duration => {
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
  options: RequestOptions<E, R>,
  fail: (failure: validators.Failure) => HttpSourceError,
  standard: Readonly<Record<string, string>>
): Effect.Effect<exchange.RequestHeaders, E | HttpSourceError, R> => {
  const { headers = {}, bearerToken } = options
  if (!Effect.isEffect(headers)) {
    const problem = headerProblem(headers)
    if (problem !== undefined) return refuse(`${problem}.`)
    if (bearerToken !== undefined && Object.keys(headers).some((key) => key.toLowerCase() === "authorization")) {
      return refuse("`bearerToken` and an Authorization header are both given; keep one of them.")
    }
  }
  const finish = (own: HeadersInput, token: Redacted.Redacted | undefined) => {
    // A token read from a file often ends in a line break.
    const all: HeadersInput =
      token === undefined ? own : { ...own, authorization: Redacted.make(`Bearer ${Redacted.value(token).trim()}`) }
    const problem = headerProblem(all)
    if (problem !== undefined) {
      return Effect.fail(fail(validators.failure("InvalidRequest", `cannot be asked: ${problem}.`)))
    }
    const values: Record<string, string> = { ...standard }
    const secret = new Set<string>()
    for (const [key, value] of Object.entries(all)) {
      values[key.toLowerCase()] = plainValue(value)
      if (Redacted.isRedacted(value)) secret.add(key.toLowerCase())
    }
    return Effect.succeed({ values, secret })
  }
  // what is the same for all polls is made once
  if (!Effect.isEffect(headers) && !Effect.isEffect(bearerToken)) return finish(headers, bearerToken)
  return Effect.flatMap(Effect.isEffect(headers) ? headers : Effect.succeed(headers), (own) =>
    Effect.flatMap(Effect.isEffect(bearerToken) ? bearerToken : Effect.succeed(bearerToken), (token) =>
      finish(own, token)
    )
  )
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
