/**
 * One connection from its attempt to its end: what it has to send, whether it is read, and when it was last alive.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type { Closed, Connection, Frame, Listener } from "./Connector.js"
import type { SocketError } from "./socketError.js"
import * as socketError from "./socketError.js"

/** What a link tells its socket. */
export interface Host {
  readonly name: string
  /** Epoch milliseconds. */
  readonly now: () => number
  /** Milliseconds that only go forward: the time of day may be set back, and nobody is to wait for it to come again. */
  readonly monotonic: () => number
  readonly opened: (link: Link) => void
  readonly received: (link: Link, frame: Frame) => void
  readonly drained: (link: Link) => void
}

export class Link implements Listener {
  connection: Connection | undefined
  /** In epoch milliseconds; all other times are monotonic. */
  openedAt = 0
  openSince = 0
  lastAlive = 0
  isPaused = false
  /** Acks are more than the peer reads: when that began, or when it was last seen to read some. */
  backlogSince: number | undefined
  private unsentBefore = 0
  /** Why it ended. */
  ended: SocketError | undefined
  /** It has ended, or its socket is done with it: nothing of it counts any more. */
  isDead = false
  private isClosed = false
  private readonly outbox: Array<Frame> = []
  private waker: (() => void) | undefined

  constructor(
    private readonly host: Host,
    readonly number: number
  ) {}

  readonly onOpen = (connection: Connection): void => {
    if (this.isDead) return connection.terminate()
    this.connection = connection
    this.openedAt = this.host.now()
    this.openSince = this.lastAlive = this.host.monotonic()
    this.host.opened(this)
  }

  readonly onFrame = (frame: Frame): void => {
    if (!this.isDead) this.host.received(this, frame)
  }

  readonly onAlive = (): void => {
    this.lastAlive = this.host.monotonic()
  }

  readonly onDrain = (): void => {
    if (!this.isDead) this.host.drained(this)
  }

  readonly onClose = (closed: Closed): void => {
    this.isClosed = true
    this.end(socketError.ofClosed(this.host.name, closed))
  }

  /** Ends it for that reason, unless it has ended. */
  end(error: SocketError): void {
    if (this.ended === undefined) {
      this.ended = error
      this.isDead = true
      this.outbox.length = 0
    }
    this.signal()
  }

  signal(): void {
    this.waker?.()
  }

  /**
   * Waits for something to happen to it, its end, or that it is read again; so many milliseconds at most. There is one sleeping
   * fiber, where a race would be two.
   */
  signalled(clock: Clock.Clock, millis: number): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (this.ended !== undefined) return resume(Effect.void)
      const sleeper = millis === Infinity ? undefined : Effect.runFork(clock.sleep(Duration.millis(millis)))
      let isOver = false
      const end = (): void => {
        isOver = true
        this.waker = undefined
        sleeper?.unsafeInterruptAsFork(FiberId.none)
      }
      this.waker = () => {
        end()
        resume(Effect.void)
      }
      sleeper?.addObserver(() => {
        // one that was interrupted ends after the next wait has begun
        if (!isOver) this.signal()
      })
      return Effect.sync(end)
    })
  }

  pause(): void {
    if (this.isPaused || this.connection === undefined) return
    this.isPaused = true
    this.connection.pause()
  }

  resume(): void {
    if (!this.isPaused) return
    this.isPaused = false
    this.backlogSince = undefined
    // nothing could be seen of the peer meanwhile
    this.lastAlive = this.host.monotonic()
    this.connection!.resume()
    this.signal()
  }

  /** Queues a frame for the next {@link flush}. */
  push(frame: Frame): void {
    if (!this.isDead) this.outbox.push(frame)
  }

  /** Sends what is queued, in one go. */
  flush(): void {
    if (this.outbox.length === 0) return
    const frames = this.outbox.splice(0)
    // what is added now must not hide that the peer has read some before
    if (this.backlogSince !== undefined) this.lookUnsent()
    this.connection?.send(frames)
  }

  /** How many bytes have not left this side. Less than at the last look: the peer reads. */
  lookUnsent(): number {
    const unsent = this.connection?.bufferedBytes() ?? 0
    if (this.backlogSince !== undefined && unsent < this.unsentBefore) this.backlogSince = this.host.monotonic()
    this.unsentBefore = unsent
    return unsent
  }

  /** Ends it from this side: sends what is queued, says goodbye, and waits for the answer for so many milliseconds at most. */
  closing(millis: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { connection } = this
      if (this.isDead || connection === undefined) return Effect.void
      this.flush()
      this.isDead = true
      // the peer's answer is behind what it has sent before
      if (this.isPaused) connection.resume()
      connection.close(1000, "")
      const answered = Effect.async<void>((resume) => {
        if (this.isClosed) resume(Effect.void)
        else this.waker = () => resume(Effect.void)
      })
      return Effect.zipRight(
        Effect.timeoutOption(Effect.interruptible(answered), millis),
        Effect.sync(() => connection.terminate())
      )
    })
  }
}
