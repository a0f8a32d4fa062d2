/**
 * Requests straight over undici: no body stream, no abort signal and no fiber, which together take most of the time of a poll
 * that finds nothing new.
 */
import type * as Undici from "@effect/platform-node/Undici"
import * as Effect from "effect/Effect"
import type { IncomingHttpHeaders } from "node:http"
import type { Received, Request, Transport } from "./transport.js"
import { brokenOff, declaredLength, drain, maxDrainBytes, tooLarge, unreachable } from "./transport.js"
import type { Failure, ResponseHeaders } from "./validators.js"
import { isContent } from "./validators.js"

// the poll has a timeout of its own: these only end what nobody waits for any more
const lastResort = 60 * 60 * 1000

const flat = (headers: IncomingHttpHeaders): ResponseHeaders => {
  const one: { [name: string]: string | undefined } = {}
  for (const name of Object.keys(headers)) {
    const value = headers[name]
    one[name] = Array.isArray(value) ? value.join(", ") : value
  }
  return one
}

/** What undici tells of one request. */
class Exchange implements Undici.Dispatcher.DispatchHandler {
  private controller: Undici.Dispatcher.DispatchController | undefined
  private isClosed = false
  private status = 0
  private headers: ResponseHeaders | undefined
  private maxBytes = 0
  private size = 0
  private parts: Array<Uint8Array> | undefined
  /** Called at the end of a body that is only read to its end. */
  private onDrained: (() => void) | undefined

  constructor(
    private readonly request: Request,
    private readonly onAnswer: (answer: Effect.Effect<Received, Failure>) => void
  ) {}

  onRequestStart(controller: Undici.Dispatcher.DispatchController): void {
    this.controller = controller
    if (this.isClosed) this.abort()
  }

  onResponseStart(_: Undici.Dispatcher.DispatchController, status: number, received: IncomingHttpHeaders): void {
    if (status < 200 || this.isClosed) return
    this.status = status
    this.headers = flat(received)
    if (isContent(status)) {
      this.maxBytes = this.request.maxBodyBytes
      if ((declaredLength(this.headers) ?? 0) > this.maxBytes) this.refuse()
    } else {
      this.maxBytes = maxDrainBytes
      // a 304 ends with its headers; nobody waits long for the end of what nobody wants
      if (status !== 304) this.onAnswer(Effect.as(drain(this.drained), this.received(null)))
    }
  }

  onResponseData(_: Undici.Dispatcher.DispatchController, part: Uint8Array): void {
    this.size += part.length
    if (this.size > this.maxBytes) this.refuse()
    else if (isContent(this.status)) (this.parts ??= []).push(part)
  }

  onResponseEnd(): void {
    if (this.isClosed) return
    const body = isContent(this.status) ? new Uint8Array(Buffer.concat(this.parts ?? [], this.size)) : null
    this.end(Effect.succeed(this.received(body)))
  }

  onResponseError(_: Undici.Dispatcher.DispatchController, error: Error): void {
    if (this.headers === undefined) this.end(Effect.fail(unreachable(error)))
    else if (this.status === 304) this.end(Effect.succeed(this.received(null)))
    else this.end(Effect.fail(brokenOff(error)))
  }

  /** Nobody waits for it any more: what has not come to its end is cut off. */
  close(): void {
    if (this.isClosed) return
    this.isClosed = true
    this.abort()
  }

  private received(body: Uint8Array | null): Received {
    return { status: this.status, headers: this.headers!, body }
  }

  private abort(): void {
    this.controller?.abort(cutOff)
  }

  /** Nothing of it is wanted from here on. */
  private refuse(): void {
    this.end(Effect.fail(tooLarge(this.maxBytes)))
    this.abort()
  }

  private end(answer: Effect.Effect<Received, Failure>): void {
    if (this.isClosed) return
    this.isClosed = true
    // what is drained was answered with its headers already
    this.onAnswer(answer)
    this.onDrained?.()
  }

  private readonly drained: Effect.Effect<void> = Effect.onInterrupt(
    Effect.async<void>((resume) => {
      if (this.isClosed) resume(Effect.void)
      else this.onDrained = () => resume(Effect.void)
    }),
    () => Effect.sync(() => this.close())
  )
}

// made once: an error takes a stack
const cutOff = new Error("The poll was interrupted, or the answer is not wanted")

/** Requests over one dispatcher. */
export const make =
  (dispatcher: Undici.Dispatcher): Transport =>
  (request) =>
    // from the start of the request to its end no interruption is missed
    Effect.uninterruptibleMask((restore) => {
      let answer: Effect.Effect<Received, Failure> | undefined
      let onAnswer = (given: Effect.Effect<Received, Failure>): void => {
        answer ??= given
      }
      const exchange = new Exchange(request, (given) => onAnswer(given))
      const { origin, path } = request.address
      dispatcher.dispatch(
        {
          origin,
          path,
          method: "GET",
          headers: request.headers,
          headersTimeout: lastResort,
          bodyTimeout: lastResort
        },
        exchange
      )
      const answered = Effect.async<Received, Failure>((resume) => {
        if (answer === undefined) onAnswer = resume
        else resume(answer)
      })
      return Effect.matchCauseEffect(restore(answered), {
        onFailure: (cause) => {
          exchange.close()
          return Effect.failCause(cause)
        },
        onSuccess: Effect.succeed
      })
    })
