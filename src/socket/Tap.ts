/**
 * Follows the accounts of the AT Protocol through a Tap server.
 *
 * @since 0.1.0
 */
export {
  /**
   * @category models
   * @since 0.1.0
   */
  IdentityEvent,
  /**
   * @category models
   * @since 0.1.0
   */
  RecordEvent,
  /**
   * @category models
   * @since 0.1.0
   */
  TapEvent,
  /**
   * @category errors
   * @since 0.1.0
   */
  TapParseFailure
} from "./tapEvent.js"
export type {
  /**
   * @category models
   * @since 0.1.0
   */
  IdentityData,
  /**
   * @category models
   * @since 0.1.0
   */
  RecordData
} from "./tapEvent.js"
