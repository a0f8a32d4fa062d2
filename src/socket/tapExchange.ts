/**
 * One request to the management of a Tap server and its answer: bounded in time and size, without redirects, told in our own error.
 */
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { Endpoint } from "./tapEndpoint.js"

const Operation = Schema.Literal("addRepos", "removeRepos", "resolve", "info", "stats", "health")

const isTransient = (status: number): boolean => [408, 425, 429].includes(status) || status >= 500

export class TapClientError extends Schema.TaggedError<TapClientError>("effect-periscope/TapClientError")(
  "TapClientError",
  {
    reason: Schema.Literal("Network", "Timeout", "Status", "Unauthorized", "Decode", "InvalidRequest"),
    server: Schema.String,
    operation: Operation,
    message: Schema.String,
    status: Schema.optional(Schema.Number)
  }
) {
  /** Whether the same request may succeed later without anybody changing something. */
  get isRetryable(): boolean {
    if (this.reason === "Status") return isTransient(this.status ?? 0)
    return this.reason === "Network" || this.reason === "Timeout"
  }
}

export interface Question<A> {
  readonly operation: typeof Operation.Type
  /** Behind the base. */
  readonly path: string
  readonly schema: Schema.Schema<A>
  /** What is posted; without it, it is a GET. */
  readonly post?: unknown
}

export interface Exchange {
  /** None: 404. */
  readonly ask: <A>(question: Question<A>) => Effect.Effect<Option.Option<A>, TapClientError>
  readonly refuse: (operation: typeof Operation.Type, detail: string) => TapClientError
}

const maxBodyBytes = 1024 * 1024

export interface ExchangeOptions {
  readonly timeout: Duration.Duration
  readonly userAgent: string
}

export const make = (client: HttpClient.HttpClient, endpoint: Endpoint, options: ExchangeOptions): Exchange => {
  const scoped = HttpClient.withScope(client)
  const server = endpoint.name
  const fail = (
    operation: typeof Operation.Type,
    reason: TapClientError["reason"],
    detail: string,
    status?: number
  ): TapClientError =>
    new TapClientError({ reason, server, operation, message: `${server}: ${operation} ${detail}`, status })

  const request = ({ path, post }: Pick<Question<never>, "path" | "post">): HttpClientRequest.HttpClientRequest => {
    const headers = {
      accept: "application/json",
      "accept-encoding": "identity",
      "user-agent": options.userAgent,
      ...(endpoint.authorization === undefined ? {} : { authorization: Redacted.value(endpoint.authorization) })
    }
    const url = endpoint.base + path
    return post === undefined
      ? HttpClientRequest.get(url, { headers })
      : HttpClientRequest.bodyText(HttpClientRequest.post(url, { headers }), JSON.stringify(post), "application/json")
  }

  const unanswered = (operation: typeof Operation.Type, error: HttpClientError.HttpClientError): TapClientError => {
    const code = codeOf(error.cause)
    if (error._tag === "RequestError" && error.reason !== "Transport") {
      return fail(operation, "InvalidRequest", "cannot be asked for: the address is not valid.")
    }
    return code !== undefined && code.includes("TIMEOUT")
      ? fail(operation, "Timeout", `got no answer in time (${code}).`)
      : fail(operation, "Network", `got no answer${code === undefined ? "" : ` (${code})`}; is the server running?`)
  }

  const bodyOf = (
    operation: typeof Operation.Type,
    { status, stream }: HttpClientResponse.HttpClientResponse
  ): Effect.Effect<string, TapClientError> => {
    const parts: Array<Uint8Array> = []
    let size = 0
    return Stream.runForEach(stream, (part) =>
      Effect.suspend(() => {
        size += part.length
        parts.push(part)
        return size > maxBodyBytes
          ? fail(operation, "Decode", `was answered with more than ${maxBodyBytes} bytes.`, status)
          : Effect.void
      })
    ).pipe(
      Effect.catchTag("ResponseError", (error) =>
        error.reason === "EmptyBody" ? Effect.void : Effect.fail(unanswered(operation, error))
      ),
      Effect.map(() => Buffer.concat(parts).toString("utf8"))
    )
  }

  const failStatus = (operation: typeof Operation.Type, status: number): TapClientError => {
    if (status === 401 || status === 403) {
      const what = endpoint.authorization === undefined ? "the server asks for a password" : "the password is wrong"
      return fail(operation, "Unauthorized", `was answered with ${status}: ${what}.`, status)
    }
    const hint = status >= 300 && status < 400 ? ", a redirect, which no Tap server sends; check the address" : ""
    return fail(operation, "Status", `was answered with ${status}${hint}.`, status)
  }

  const ask = <A>(question: Question<A>): Effect.Effect<Option.Option<A>, TapClientError> => {
    const { operation, post, schema } = question
    return scoped.execute(request(question)).pipe(
      Effect.catchAll((error) =>
        error._tag === "ResponseError" && error.reason === "StatusCode"
          ? Effect.succeed(error.response)
          : Effect.fail(unanswered(operation, error))
      ),
      Effect.flatMap((response): Effect.Effect<Option.Option<A>, TapClientError> => {
        const { status } = response
        const body = bodyOf(operation, response)
        if (status < 200 || status >= 300) {
          // read, so that its connection can be used again; what is in it, or wrong with it, says no more than the status
          return Effect.zipRight(
            Effect.ignore(body),
            status === 404 ? Effect.succeedNone : failStatus(operation, status)
          )
        }
        return Effect.flatMap(body, (text) => {
          const decoded = post === undefined ? decode(schema)(text) : Either.right(undefined as A)
          return Either.isRight(decoded)
            ? Effect.succeedSome(decoded.right)
            : Effect.fail(fail(operation, "Decode", "was not answered as a Tap server does.", status))
        })
      }),
      Effect.scoped,
      Effect.disconnect,
      Effect.timeoutFail({
        duration: options.timeout,
        onTimeout: () =>
          fail(operation, "Timeout", `got no complete answer within ${Duration.format(options.timeout)}.`)
      }),
      withoutTraces
    )
  }
  return { ask, refuse: (operation, detail) => fail(operation, "InvalidRequest", detail) }
}

const decode =
  <A>(schema: Schema.Schema<A>) =>
  (body: string): Either.Either<A, unknown> =>
    Either.flatMap(
      Either.try((): unknown => JSON.parse(body)),
      // as it is: with its fields in the order in which the server has them, and those that nobody knows
      (json) => Either.map(Schema.validateEither(schema)(json), () => json as A)
    )

/** The client's own spans would hold its headers, and its failures the whole request. */
const withoutTraces = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  effect.pipe(
    Effect.withTracerEnabled(false),
    Effect.withUnhandledErrorLogLevel(Option.none()),
    // fetch would follow redirects itself, and take the password along to any origin
    Effect.mapInputContext((context: Context.Context<never>) =>
      Context.add(context, FetchHttpClient.RequestInit, {
        ...Option.getOrUndefined(Context.getOption(context as Context.Context<unknown>, FetchHttpClient.RequestInit)),
        redirect: "manual"
      })
    )
  )

/** The code of the first cause that has one: messages may hold header values. */
const codeOf = (error: unknown): string | undefined => {
  let cause = error
  for (let depth = 0; depth < 6 && typeof cause === "object" && cause !== null; depth++) {
    if ("code" in cause && typeof cause.code === "string") return cause.code
    cause = "cause" in cause ? cause.cause : undefined
  }
  return undefined
}
