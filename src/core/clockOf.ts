/**
 * The clock that a fiber lives by, read without an effect.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as FiberRefs from "effect/FiberRefs"

export const clockOf = (refs: FiberRefs.FiberRefs): Clock.Clock =>
  Context.get(FiberRefs.getOrDefault(refs, DefaultServices.currentServices), Clock.Clock)
