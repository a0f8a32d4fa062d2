/**
 * Fibers that wait to be called, the first one first. A call says only that it is worth looking again.
 */
import * as Effect from "effect/Effect"

/** One that waits again and again: nothing is made for each wait. */
export interface Waiter {
  resume: ((effect: Effect.Effect<void>) => void) | undefined
  /** It was called, and has not waited since. */
  isWoken: boolean
}

export class Waiters {
  private readonly waiting = new Set<Waiter>()

  get size(): number {
    return this.waiting.size
  }

  /**
   * Waits for a call while that holds: it is asked once more when nothing can come between. Who is interrupted is to leave,
   * and to pass a call on that came just before.
   */
  waitAs(waiter: Waiter, holds: () => boolean): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      waiter.isWoken = false
      if (!holds()) return resume(Effect.void)
      waiter.resume = resume
      this.waiting.add(waiter)
    })
  }

  /** Waits for as long as that holds, which is asked at each call. Nobody misses the one that waits. */
  wait(holds: () => boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const waiter: Waiter = { resume: undefined, isWoken: false }
      const again = (): Effect.Effect<void> =>
        holds() ? Effect.flatMap(this.waitAs(waiter, holds), again) : Effect.void
      return Effect.onInterrupt(again(), () => Effect.sync(() => this.leave(waiter)))
    })
  }

  leave(waiter: Waiter): void {
    this.waiting.delete(waiter)
  }

  wakeOne(): void {
    if (this.waiting.size === 0) return
    for (const waiter of this.waiting) return this.wake(waiter)
  }

  wakeAll(): void {
    for (const waiter of [...this.waiting]) this.wake(waiter)
  }

  private wake(waiter: Waiter): void {
    this.waiting.delete(waiter)
    waiter.isWoken = true
    waiter.resume?.(Effect.void)
  }
}
