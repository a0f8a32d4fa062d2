/**
 * The connections of a Tap server, and what its clients say on them.
 */
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { Duplex } from "node:stream"
import type { WebSocket } from "ws"
import { WebSocketServer } from "ws"

export const makeServer = (): WebSocketServer => new WebSocketServer({ noServer: true, perMessageDeflate: false })

/** What the kernel takes at once is not counted. */
const highWaterMark = 65_536

/** A connection to one client. */
export class Connection {
  /** The numbers of the events that were sent over it. */
  readonly sent = new Set<number>()
  /** Nothing that arrives counts any more. */
  isDead = false
  private corked = false

  constructor(
    readonly n: number,
    private readonly socket: WebSocket,
    private readonly transport: Duplex,
    private readonly onDrain: () => void
  ) {}

  get isReady(): boolean {
    return this.socket.readyState === 1 && this.socket.bufferedAmount < highWaterMark
  }

  send(text: string): void {
    if (!this.corked) {
      this.corked = true
      this.transport.cork()
      process.nextTick(() => {
        this.corked = false
        this.transport.uncork()
      })
    }
    const wasFull = this.socket.bufferedAmount >= highWaterMark
    this.socket.send(text, () => {
      if (!wasFull && this.socket.bufferedAmount > 0) return
      this.onDrain()
    })
  }

  /** Without a code: as if the process of the server had died. */
  close(code: number | undefined): void {
    if (code !== undefined) return this.socket.close(code)
    // what the kernel still holds would be read at the end
    this.isDead = true
    this.socket.terminate()
  }

  pause(): void {
    this.socket.pause()
  }

  resume(): void {
    this.socket.resume()
  }
}

/** The number that a message acknowledges; nothing of another message; `"broken"`: the server hangs up. */
export const acknowledged = (message: string): Option.Option<number> | "broken" => {
  const json = Option.liftThrowable(JSON.parse)(message)
  if (Option.isNone(json)) return "broken"
  if (json.value === null) return Option.none()
  if (!Predicate.isRecord(json.value)) return "broken"
  const { id = 0, type = "" } = json.value
  if (typeof type !== "string" || !Number.isSafeInteger(id) || (id as number) < 0) return "broken"
  return type === "ack" ? Option.some(id as number) : Option.none()
}
