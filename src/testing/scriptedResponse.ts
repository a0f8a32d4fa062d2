/**
 * A response whose body is made of effects instead of promises, so that a test clock waits for it. It fails as the undici
 * client does: a broken body with `Decode`, one that is read twice as unusable.
 */
import * as Cookies from "@effect/platform/Cookies"
import type * as Headers from "@effect/platform/Headers"
import * as HttpClientError from "@effect/platform/HttpClientError"
import type * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as HttpIncomingMessage from "@effect/platform/HttpIncomingMessage"
import * as UrlParams from "@effect/platform/UrlParams"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Inspectable from "effect/Inspectable"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"

type ResponseError = HttpClientError.ResponseError

export class ScriptedResponse extends Inspectable.Class implements HttpClientResponse.HttpClientResponse {
  readonly [HttpIncomingMessage.TypeId]: HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly [HttpClientResponse.TypeId]: HttpClientResponse.TypeId = HttpClientResponse.TypeId
  readonly remoteAddress = Option.none<string>()
  private isUsed = false

  /** `part` gives the next bytes of the body, `undefined` at its end, or fails with the cause of the break. */
  constructor(
    readonly request: HttpClientRequest.HttpClientRequest,
    readonly status: number,
    readonly headers: Headers.Headers,
    private readonly setCookies: ReadonlyArray<string>,
    private readonly part: Effect.Effect<Uint8Array | undefined, unknown>
  ) {
    super()
  }

  get cookies(): Cookies.Cookies {
    return Cookies.fromSetCookie(this.setCookies)
  }

  private decodeError(cause: unknown): ResponseError {
    return new HttpClientError.ResponseError({ request: this.request, response: this, reason: "Decode", cause })
  }

  private readonly parts: Stream.Stream<Uint8Array, ResponseError> = Stream.repeatEffectChunkOption(
    Effect.suspend(() =>
      Effect.matchEffect(this.part, {
        onFailure: (cause) => Effect.fail(Option.some(this.decodeError(cause))),
        onSuccess: (bytes) => (bytes === undefined ? Effect.fail(Option.none()) : Effect.succeed(Chunk.of(bytes)))
      })
    )
  )

  get stream(): Stream.Stream<Uint8Array, ResponseError> {
    return Stream.suspend(() => {
      if (this.isUsed) return Stream.empty
      this.isUsed = true
      return this.parts
    })
  }

  /** The whole body; not by the stream, which costs ten times as much. */
  private readonly whole: Effect.Effect<Buffer, ResponseError> = Effect.suspend(() => {
    if (this.isUsed) return Effect.fail(this.decodeError(new TypeError("unusable")))
    this.isUsed = true
    const parts: Array<Uint8Array> = []
    const read: Effect.Effect<Buffer, unknown> = Effect.flatMap(this.part, (bytes) => {
      if (bytes === undefined) return Effect.succeed(Buffer.concat(parts))
      parts.push(bytes)
      return read
    })
    return Effect.mapError(read, (cause) => this.decodeError(cause))
  })

  private cachedText: Effect.Effect<string, ResponseError> | undefined
  private cachedBuffer: Effect.Effect<ArrayBuffer, ResponseError> | undefined
  private cachedForm: Effect.Effect<FormData, ResponseError> | undefined

  private once<A>(read: (whole: Buffer) => Effect.Effect<A, ResponseError>): Effect.Effect<A, ResponseError> {
    return Effect.runSync(Effect.cached(Effect.flatMap(this.whole, read)))
  }

  get text(): Effect.Effect<string, ResponseError> {
    return (this.cachedText ??= this.once((bytes) => Effect.succeed(new TextDecoder().decode(bytes))))
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, ResponseError> {
    return (this.cachedBuffer ??= this.once((bytes) => Effect.succeed(Uint8Array.from(bytes).buffer)))
  }

  get formData(): Effect.Effect<FormData, ResponseError> {
    return (this.cachedForm ??= this.once((bytes) =>
      Effect.tryPromise({
        try: () => new Response(Uint8Array.from(bytes), { headers: { ...this.headers } }).formData(),
        catch: (cause) => this.decodeError(cause)
      })
    ))
  }

  private trying<A>(read: (text: string) => A): Effect.Effect<A, ResponseError> {
    return Effect.tryMap(this.text, { try: read, catch: (cause) => this.decodeError(cause) })
  }

  get json(): Effect.Effect<unknown, ResponseError> {
    return this.trying((text): unknown => (text === "" ? null : JSON.parse(text)))
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, ResponseError> {
    return this.trying((text) => UrlParams.fromInput(new URLSearchParams(text)))
  }

  toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, {
      _id: "@effect/platform/HttpClientResponse",
      request: this.request.toJSON(),
      status: this.status
    })
  }
}
