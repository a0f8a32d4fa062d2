/**
 * A value that is made when it is read, and whose readers see the newest one: a slow reader skips what came in between, so
 * nothing is queued, and a value that nobody reads costs nothing.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Subscribable from "effect/Subscribable"

export class Conflated<A> {
  private version = 0
  private waiting: Set<() => void> | undefined

  constructor(readonly read: () => A) {}

  /** Tells the readers that there is a newer value. */
  touch(): void {
    this.version++
    if (this.waiting === undefined || this.waiting.size === 0) return
    const waiting = this.waiting
    this.waiting = undefined
    for (const resume of waiting) resume()
  }

  /** Completes once a condition holds. */
  until(holds: () => boolean): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const check = (): void => {
        if (holds()) resume(Effect.void)
        else (this.waiting ??= new Set()).add(check)
      }
      check()
      return Effect.sync(() => void this.waiting?.delete(check))
    })
  }

  /** The current value and then every newer one, as far as the reader keeps up. */
  get changes(): Stream.Stream<A> {
    return Stream.suspend(() => {
      let seen = -1
      const next = Effect.map(
        this.until(() => this.version !== seen),
        () => {
          seen = this.version
          return this.read()
        }
      )
      return Stream.repeatEffect(next)
    })
  }

  get subscribable(): Subscribable.Subscribable<A> {
    return Subscribable.make({ get: Effect.sync(this.read), changes: this.changes })
  }
}
