/**
 * Uses the credential packages of the clouds: loads them when they are wanted, and tells their errors in our own words, as theirs
 * hold requests with keys in them.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { AccessToken } from "./AccessToken.js"
import { AccessTokenError } from "./AccessToken.js"

/** Imports a package, named with the version that works. */
export const load = <A>(load: () => Promise<A>, packageName: string): Effect.Effect<A, AccessTokenError> =>
  Effect.tryPromise({
    try: load,
    catch: (error) => {
      const isMissing = codeOf(error) === "ERR_MODULE_NOT_FOUND" || codeOf(error) === "MODULE_NOT_FOUND"
      return new AccessTokenError({
        reason: "InvalidRequest",
        message: isMissing
          ? `The package that signs in is missing: npm install ${packageName}`
          : `The package that signs in cannot be loaded; try again with: npm install ${packageName}`
      })
    }
  })

/** Asks a package for something. */
export const attempt = <A>(cloud: string, ask: () => Promise<A>): Effect.Effect<A, AccessTokenError> =>
  Effect.tryPromise({ try: ask, catch: (error) => classify(cloud, error) })

export const token = (text: string, expiresAtMillis: number | undefined): AccessToken => ({
  token: Redacted.make(text),
  expiresAtMillis
})

/** An error and those behind it, the outermost first. */
const chainOf = (error: unknown): ReadonlyArray<Readonly<Record<string, unknown>>> => {
  const chain: Array<Readonly<Record<string, unknown>>> = []
  const add = (next: unknown): void => {
    if (typeof next !== "object" || next === null || chain.length >= 16) return
    const fields = next as Readonly<Record<string, unknown>>
    if (chain.includes(fields)) return
    chain.push(fields)
    if (Array.isArray(fields["errors"])) fields["errors"].forEach(add)
    for (const name of ["cause", "response", "errorResponse", "data"]) add(fields[name])
  }
  add(error)
  return chain
}

const codeOf = (error: unknown): unknown => chainOf(error).find(({ code }) => typeof code === "string")?.["code"]

const classify = (cloud: string, error: unknown): AccessTokenError => {
  const chain = chainOf(error)
  const codes = chain.flatMap(({ code }) => (typeof code === "string" ? [code] : []))
  const statuses = chain.flatMap(({ status, statusCode }) =>
    [status, statusCode].filter((each): each is number => typeof each === "number")
  )
  const say = (reason: AccessTokenError["reason"], what: string) =>
    new AccessTokenError({ reason, message: `${cloud} ${what}` })
  const status = statuses[0]
  if (status !== undefined) {
    const said = chain.map(({ error: word }) => word).find(isPlainWord)
    const detail = `${status}${said === undefined ? "" : ` ${said}`}`
    return status >= 500 || status === 429 || status === 408
      ? say("Network", `answered the request for an access token with ${detail}.`)
      : say("Unauthorized", `refused the credentials with ${detail}.`)
  }
  const network = codes.find((code) =>
    /^E(CONN|HOST|NET|AI_|NOTFOUND|PIPE|TIMEDOUT)|^UND_ERR|^CERT_|CERTIFICATE/.test(code)
  )
  if (network !== undefined) return say("Network", `could not be asked for an access token (${network}).`)
  const file = codes.find((code) => code === "ENOENT" || code === "EACCES")
  return file === undefined
    ? say("Unauthorized", "has no credentials here that can be used; sign in, or name a key file in the environment.")
    : say("Unauthorized", `has no credentials here: a file that they are read from cannot be opened (${file}).`)
}

const isPlainWord = (word: unknown): word is string => typeof word === "string" && /^[a-z_]{1,64}$/.test(word)
