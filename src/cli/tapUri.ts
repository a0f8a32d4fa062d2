/**
 * Reads the address of a Tap server, and finds its password: in the address, or where the server itself looks for it.
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"

export interface TapAddress {
  /** As it was written: it may hold the password. */
  readonly url: Redacted.Redacted
  readonly hasPassword: boolean
  readonly publicUrl: string
}

const example = (scheme: string): string => `${scheme}://localhost:2480`

/** An address, or a sentence that says what to write instead, without user info. */
export const parse = (source: string): Either.Either<TapAddress, string> => {
  const scheme = /^taps:/i.test(source) ? "taps" : "tap"
  const address = source.replace(/^taps?/i, scheme === "tap" ? "http" : "https")
  const refuse = (what: string) => Either.left(`a ${scheme}:// address ${what}; write it as ${example(scheme)}`)
  if (!/^https?:\/\/[^/?#]/.test(address) || !URL.canParse(address)) return refuse("needs a host")
  const { hash, host, password, pathname, search, username } = new URL(address)
  if (search !== "" || hash !== "") return refuse('has no query and no fragment ("?", "#")')
  const hasUser = username !== "" || password !== ""
  if (hasUser && username !== "" && username !== "admin") return refuse("has no user but admin")
  if (hasUser && password === "") return refuse("with a user needs a password, as in admin:PASSWORD@")
  const path = pathname.replace(/\/+$/, "").replace(/\/channel$/, "")
  return Either.right({
    url: Redacted.make(source),
    hasPassword: hasUser,
    publicUrl: `${scheme}://${host}${path}`
  })
}

const variable = "TAP_ADMIN_PASSWORD"

/** The password of each server that has none in its address. */
export const passwordOf = (
  addresses: ReadonlyArray<TapAddress>,
  environment: Readonly<Record<string, string | undefined>>
): Either.Either<Redacted.Redacted | undefined, string> => {
  const password = environment[variable] ?? ""
  if (password === "") return Either.right(undefined)
  const open = new Set(addresses.filter(({ hasPassword }) => !hasPassword).map(({ publicUrl }) => publicUrl))
  return open.size <= 1
    ? Either.right(Redacted.make(password))
    : Either.left(
        `${variable} would go to ${open.size} servers; write the password of each into its address, as in tap://admin:PASSWORD@host`
      )
}
