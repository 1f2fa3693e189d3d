import './design/locale'
import './design/fonts.css'
import './design/tokens.css'
import './design/base.css'
import { mount } from 'svelte'
import App from './App.svelte'

const FONT_WAIT_MS = 300

/** Nothing is drawn before the font is here, so that nothing jumps; a slow connection does not wait for it. */
function fontOrPatience(): Promise<unknown> {
  const font = document.fonts.load("14px 'Inter Variable'").catch(() => [])
  return Promise.race([font, new Promise((resolve) => setTimeout(resolve, FONT_WAIT_MS))])
}

void fontOrPatience().then(() => {
  const target = document.getElementById('app')
  if (target === null) throw new Error('the page has no #app')
  mount(App, { target })
})
