/**
 * Requests straight over undici: no body stream, no abort signal and no fiber, which together take most of the time of a poll
 * that finds nothing new.
 */
import type * as Undici from "@effect/platform-node/Undici"
import * as Effect from "effect/Effect"
import type { IncomingHttpHeaders } from "node:http"
import type { Received, Request, Transport } from "./transport.js"
import { bodyBound, brokenOff, declaredLength, receive, tooLarge, unreachable } from "./transport.js"
import type { Failure, ResponseHeaders } from "./validators.js"

type Resume<A> = (effect: Effect.Effect<A, Failure>) => void

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

/** What undici tells of one request: the answer goes on with its headers, and its body is collected meanwhile. */
class Exchange implements Undici.Dispatcher.DispatchHandler {
  private controller: Undici.Dispatcher.DispatchController | undefined
  private isCancelled = false
  private hasHeaders = false
  private maxBytes = 0
  private size = 0
  private readonly parts: Array<Uint8Array> = []
  private outcome: Effect.Effect<Uint8Array, Failure> | undefined
  private onBody: Resume<Uint8Array> | undefined

  constructor(
    private readonly request: Request,
    private readonly onAnswer: Resume<Received>
  ) {}

  onRequestStart(controller: Undici.Dispatcher.DispatchController): void {
    this.controller = controller
    if (this.isCancelled) this.abort()
  }

  onResponseStart(_: Undici.Dispatcher.DispatchController, status: number, received: IncomingHttpHeaders): void {
    if (status < 200) return
    const headers = flat(received)
    this.hasHeaders = true
    this.maxBytes = bodyBound(status, this.request)
    if ((declaredLength(headers) ?? 0) > this.maxBytes && status !== 304) this.refuse()
    this.onAnswer(receive(status, headers, this.body))
  }

  onResponseData(_: Undici.Dispatcher.DispatchController, part: Uint8Array): void {
    this.size += part.length
    if (this.size > this.maxBytes) this.refuse()
    else this.parts.push(part)
  }

  onResponseEnd(): void {
    this.end(Effect.succeed(new Uint8Array(Buffer.concat(this.parts, this.size))))
  }

  onResponseError(_: Undici.Dispatcher.DispatchController, error: Error): void {
    if (this.hasHeaders) this.end(Effect.fail(brokenOff(error)))
    else this.onAnswer(Effect.fail(unreachable(error)))
  }

  /** Nobody waits for it any more. */
  cancel(): void {
    this.isCancelled = true
    this.abort()
  }

  private abort(): void {
    this.controller?.abort(new Error("The poll was interrupted, or the answer is not wanted"))
  }

  private refuse(): void {
    this.end(Effect.fail(tooLarge(this.maxBytes)))
    this.abort()
  }

  private end(outcome: Effect.Effect<Uint8Array, Failure>): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.onBody?.(outcome)
  }

  private readonly body: Effect.Effect<Uint8Array, Failure> = Effect.suspend(
    () =>
      this.outcome ??
      Effect.async((resume) => {
        this.onBody = resume
        return Effect.sync(() => this.cancel())
      })
  )
}

/** Requests over one dispatcher. */
export const make =
  (dispatcher: Undici.Dispatcher): Transport =>
  (request) =>
    Effect.async<Received, Failure>((resume) => {
      const exchange = new Exchange(request, resume)
      const { origin, pathname, search } = new URL(request.url)
      dispatcher.dispatch(
        {
          origin,
          path: pathname + search,
          method: "GET",
          headers: request.headers,
          headersTimeout: lastResort,
          bodyTimeout: lastResort
        },
        exchange
      )
      return Effect.sync(() => exchange.cancel())
    })
