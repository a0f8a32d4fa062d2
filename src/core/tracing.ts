/**
 * Whether anybody looks at spans.
 */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as FiberRefs from "effect/FiberRefs"
import * as Tracer from "effect/Tracer"

/** Effect's own tracer, the default, shows its spans to nobody. */
const silent = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether spans made in a fiber with these references reach anybody. */
export const isTraced = (refs: FiberRefs.FiberRefs): boolean =>
  Context.get(FiberRefs.getOrDefault(refs, DefaultServices.currentServices), Tracer.Tracer) !== silent
