/**
 * Sets several fiber refs for the time of an effect, in one step: `Effect.locally`, once for each, takes longer than the rest
 * of a poll.
 */
import * as Effect from "effect/Effect"
import type * as FiberId from "effect/FiberId"
import type * as FiberRef from "effect/FiberRef"
import * as FiberRefs from "effect/FiberRefs"

/** One fiber ref, and what it becomes. */
export interface Setting {
  readonly enter: (refs: FiberRefs.FiberRefs, fiberId: FiberId.Single) => FiberRefs.FiberRefs
  readonly leave: (
    refs: FiberRefs.FiberRefs,
    fiberId: FiberId.Single,
    before: FiberRefs.FiberRefs
  ) => FiberRefs.FiberRefs
}

export const setting = <A>(fiberRef: FiberRef.FiberRef<A>, change: (present: A) => A): Setting => {
  const present = (refs: FiberRefs.FiberRefs): A => FiberRefs.getOrDefault(refs, fiberRef)
  return {
    enter: (refs, fiberId) => FiberRefs.updateAs(refs, { fiberId, fiberRef, value: change(present(refs)) }),
    leave: (refs, fiberId, before) => FiberRefs.updateAs(refs, { fiberId, fiberRef, value: present(before) })
  }
}

export const locallyAll = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  settings: ReadonlyArray<Setting>
): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) => {
    let before = FiberRefs.empty()
    const enter = Effect.updateFiberRefs((id, refs) => {
      before = refs
      return settings.reduce((next, each) => each.enter(next, id), refs)
    })
    const leave = Effect.updateFiberRefs((id, refs) =>
      settings.reduce((next, each) => each.leave(next, id, before), refs)
    )
    return Effect.zipRight(enter, Effect.ensuring(restore(effect), leave))
  })
