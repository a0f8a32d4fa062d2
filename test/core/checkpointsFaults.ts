/** File systems that die, fail or stop at their n-th operation. */
import * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"

/** What happens around the operation with this number, counted from 0. */
export type Fault = <A, E>(
  n: number,
  operation: Effect.Effect<A, E>,
  name: string,
  half: Effect.Effect<unknown, E>
) => Effect.Effect<A, E | PlatformError.PlatformError>

/** Sends every operation, also those on open files, through `fault`. */
export const faulty = (fs: FileSystem.FileSystem, fault: Fault): FileSystem.FileSystem => {
  let count = 0
  const wrap = <T extends object>(target: T): T =>
    new Proxy(target, {
      get: (_, key) => {
        const value = Reflect.get(target, key, target)
        if (typeof key !== "string") return value
        if (Effect.isEffect(value)) return through(key, value as Effect.Effect<unknown>)
        if (typeof value !== "function") return value
        return (...args: ReadonlyArray<unknown>) => {
          const result = value.apply(target, args)
          if (!Effect.isEffect(result)) return result
          const [first] = args
          const half =
            key === "writeAll" && first instanceof Uint8Array
              ? value.call(target, first.subarray(0, first.length >> 1))
              : Effect.void
          const done = through(key, result as Effect.Effect<unknown>, half)
          return key === "open" ? Effect.map(done, (file) => wrap(file as object)) : done
        }
      }
    })
  const through = (name: string, operation: Effect.Effect<unknown>, half: Effect.Effect<unknown> = Effect.void) =>
    Effect.suspend(() => fault(count++, operation, name, half))
  return wrap(fs)
}

/** Nothing happens any more from operation `k` on, which is done by half if `torn`. */
export const dies = (k: number, torn: boolean): Fault => {
  let isDead = false
  return (n, operation, _, half) => {
    if (!isDead && n < k) return operation
    const first = !isDead
    isDead = true
    return first && torn ? Effect.zipRight(Effect.ignore(half), Effect.die("crashed")) : Effect.die("crashed")
  }
}

/** Operation `k` fails, after it was done by half if `torn`; the others work. */
export const failsOnce =
  (k: number, torn: boolean): Fault =>
  (n, operation, method, half) => {
    if (n !== k) return operation
    const full = new PlatformError.SystemError({
      module: "FileSystem",
      method,
      reason: "Unknown",
      description: "ENOSPC: no space left on device",
      pathOrDescriptor: ""
    })
    return torn ? Effect.zipRight(Effect.ignore(half), Effect.fail(full)) : Effect.fail(full)
  }

/** Operation `k` waits for `gate`, before it or after it. */
export const stops =
  (k: number, when: "before" | "after", gate: Effect.Effect<void>): Fault =>
  (n, operation) =>
    n !== k ? operation : when === "before" ? Effect.zipRight(gate, operation) : Effect.zipLeft(operation, gate)
