/**
 * Loads what change logs need beside this package, when it is wanted; says what to install where it is missing.
 */
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import { CannotOpen } from "./stores.js"

/** The code of an error of Node or of a driver; "" if it has none. */
export const codeOf = (error: unknown): string =>
  Predicate.hasProperty(error, "code") && typeof error.code === "string" ? error.code : ""

/** Of what a change log needs whatever its database is. */
export const common = "@effect/sql@0.52"

/** Imports a module that needs packages; they are named with the versions that work together. */
export const load = <A>(what: string, packages: string, load: () => Promise<A>): Effect.Effect<A, CannotOpen> =>
  Effect.tryPromise({
    try: load,
    catch: (error) =>
      new CannotOpen(
        /^(ERR_)?MODULE_NOT_FOUND$/.test(codeOf(error))
          ? `${what} needs packages that are not installed: npm install ${packages}`
          : `${what} needs packages that cannot be loaded here; try again with: npm install ${packages}`
      )
  })
