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

type Outcome<A> = Effect.Effect<A, Failure>

/** What undici tells of one request. */
class Exchange implements Undici.Dispatcher.DispatchHandler {
  private controller: Undici.Dispatcher.DispatchController | undefined
  private isClosed = false
  private hasHeaders = false
  private maxBytes = 0
  private size = 0
  private readonly parts: Array<Uint8Array> = []
  private body: Outcome<Uint8Array> | undefined
  private onBody: ((body: Outcome<Uint8Array>) => void) | undefined

  constructor(
    private readonly request: Request,
    private readonly onAnswer: (answer: Outcome<Received>) => void
  ) {}

  onRequestStart(controller: Undici.Dispatcher.DispatchController): void {
    this.controller = controller
    if (this.isClosed) this.abort()
  }

  onResponseStart(_: Undici.Dispatcher.DispatchController, status: number, received: IncomingHttpHeaders): void {
    if (status < 200) return
    this.hasHeaders = true
    const headers = flat(received)
    if (isContent(status)) {
      this.maxBytes = this.request.maxBodyBytes
      if ((declaredLength(headers) ?? 0) > this.maxBytes) this.refuse()
      this.onAnswer(Effect.map(this.whole, (body) => ({ status, headers, body })))
    } else {
      this.maxBytes = maxDrainBytes
      this.onAnswer(
        Effect.as(status === 304 ? Effect.ignore(this.whole) : drain(this.whole), { status, headers, body: null })
      )
    }
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

  /** Nobody waits for it any more: what has not come to its end is cut off. */
  close(): void {
    this.isClosed = true
    if (this.body === undefined) this.abort()
  }

  private abort(): void {
    this.controller?.abort(cutOff)
  }

  private refuse(): void {
    this.end(Effect.fail(tooLarge(this.maxBytes)))
    this.abort()
  }

  private end(body: Outcome<Uint8Array>): void {
    if (this.body !== undefined) return
    this.body = body
    this.onBody?.(body)
  }

  private readonly whole: Outcome<Uint8Array> = Effect.suspend(
    () => this.body ?? Effect.async((resume) => void (this.onBody = resume))
  )
}

// made once: an error takes a stack
const cutOff = new Error("The poll was interrupted, or the answer is not wanted")

/** Requests over one dispatcher. */
export const make =
  (dispatcher: Undici.Dispatcher): Transport =>
  (request) =>
    Effect.suspend(() => {
      let exchange: Exchange | undefined
      const answered = Effect.async<Received, Failure>((resume) => {
        exchange = new Exchange(request, resume)
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
      })
      return Effect.ensuring(
        answered,
        Effect.sync(() => exchange?.close())
      )
    })
