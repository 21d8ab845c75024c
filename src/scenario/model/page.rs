//! Actions and expectations of a page, and values saved from it.

use crate::diagnostic::{Span, Spanned};
use crate::scenario::matcher::Matcher;
use crate::scenario::template::{Template, Value};

/// Element that may cover the page at any time, and the element that dismisses it.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// Element that is visible while the page is covered.
    pub when: Locator,
    /// Element to click to dismiss it.
    pub click: Locator,
    /// Frame that contains both elements, from the outermost frame inward.
    pub within_frame: Vec<Locator>,
}

/// Action on a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageAction {
    /// Opens a URL.
    Goto {
        /// URL, absolute or relative to `base_url`.
        url: Spanned<Template>,
        /// Condition on the status of the document (default: below 400).
        status: Option<Matcher>,
    },
    /// Goes back or forward in the history, or reloads the page.
    Travel(Travel),
    /// Clicks an element.
    Click {
        /// Element to click.
        target: Locator,
        /// Mouse button.
        button: MouseButton,
        /// Position in CSS pixels from the top left corner of the element (default: its center).
        position: Option<(f64, f64)>,
        /// Whether to click even if the element is covered or moving.
        force: bool,
    },
    /// Double-clicks an element.
    DoubleClick(Locator),
    /// Moves the pointer over an element.
    Hover(Locator),
    /// Clears a field.
    Clear(Locator),
    /// Checks or unchecks a checkbox.
    Check {
        /// Checkbox.
        target: Locator,
        /// Whether the box ends up checked.
        on: bool,
    },
    /// Fills a field.
    Fill {
        /// Field to fill.
        target: Locator,
        /// Text to type.
        with: Spanned<Template>,
        /// Whether to append to the present value.
        append: bool,
        /// Condition on the value of the field afterwards (default: equal to the text typed).
        becomes: Option<Matcher>,
    },
    /// Selects options of a list.
    Select {
        /// List to select from.
        target: Locator,
        /// Options to select.
        options: Vec<SelectOption>,
    },
    /// Presses a key or a chord.
    Press {
        /// Modifiers followed by the key, as in `Enter` or `Control+A`.
        keys: Spanned<Vec<String>>,
        /// Element that has the focus while the keys are pressed.
        into: Option<Locator>,
    },
    /// Sets the files of a file input.
    Upload {
        /// File input.
        target: Locator,
        /// Paths, relative to the scenario file.
        files: Vec<Spanned<Template>>,
    },
    /// Drags an element onto another.
    Drag {
        /// Element to drag.
        target: Locator,
        /// Element to drop onto.
        to: Locator,
    },
    /// Scrolls the page.
    Scroll(Scroll),
    /// Handles the dialog that is open or opens soon.
    Dialog {
        /// Response to the dialog.
        answer: DialogAnswer,
        /// Condition on the message of the dialog.
        expect: Option<Matcher>,
    },
    /// Switches to another window.
    Window(WindowChange),
    /// Runs a function body in the page.
    Script {
        /// JavaScript function body. `${…}` is not resolved; the values of `args` are its `arguments`.
        script: Spanned<String>,
        /// Arguments of the function.
        args: Vec<Value>,
        /// Name of the variable that stores the result.
        save: Option<Spanned<String>>,
    },
    /// Waits until all expectations hold.
    Expect(Vec<PageExpectation>),
    /// Saves values for later steps.
    Save(Vec<PageSave>),
    /// Takes a screenshot.
    Screenshot {
        /// Name of the screenshot.
        name: Spanned<Template>,
        /// Element to capture (default: the page).
        of: Option<Locator>,
        /// Whether to capture the full page, including the part outside the viewport.
        full_page: bool,
    },
}

/// Mouse button.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MouseButton {
    /// Primary button.
    #[default]
    Left,
    /// Middle button (wheel).
    Middle,
    /// Secondary button, which opens context menus.
    Right,
}

/// Distance or destination of a scroll action.
#[derive(Debug, Clone, PartialEq)]
pub enum Scroll {
    /// Scrolls until the element is in view.
    To(Locator),
    /// Scrolls down by this number of CSS pixels, or up if it is negative.
    By(i32),
    /// Scrolls down until the element appears.
    Until(Locator),
}

/// Response to a dialog.
#[derive(Debug, Clone, PartialEq)]
pub enum DialogAnswer {
    /// Confirms the dialog, with this text if it prompts for one.
    Accept(Option<Spanned<Template>>),
    /// Cancels the dialog.
    Dismiss,
}

/// Window that the next steps act on.
#[derive(Debug, Clone, PartialEq)]
pub enum WindowChange {
    /// The window that the previous step has opened, or that opens soon.
    New,
    /// The window with this title.
    Title(Matcher),
    /// The window with this URL.
    Url(Matcher),
    /// Closes the current window and returns to the previous one.
    Close,
}

/// Option of a list.
#[derive(Debug, Clone, PartialEq)]
pub enum SelectOption {
    /// Option with this visible text.
    Text(Spanned<Template>),
    /// Option with this `value`.
    Value(Spanned<Template>),
}

/// Locator: describes how to find an element on the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Locator {
    /// Locator strategy.
    pub how: LocatorStrategy,
    /// Position among several matches, starting at 1, in document order. If it is `None`, the match must be unique.
    pub nth: Option<u32>,
    /// Ancestor to search in.
    pub within: Option<Box<Locator>>,
    /// Span of the locator in the file.
    pub span: Span,
}

/// Locator strategy.
#[derive(Debug, Clone, PartialEq)]
pub enum LocatorStrategy {
    /// ARIA role and accessible name.
    Role {
        /// ARIA role, such as `button`.
        role: String,
        /// Condition on the entire accessible name; `None` accepts any name.
        name: Option<Matcher>,
    },
    /// Text of the label.
    Label(Matcher),
    /// Placeholder.
    Placeholder(Matcher),
    /// Visible text; selects the innermost element that contains it.
    Text(Matcher),
    /// Alternative text.
    Alt(Matcher),
    /// `title` attribute.
    Title(Matcher),
    /// `data-testid` attribute.
    TestId(Matcher),
    /// `id` attribute.
    Id(Template),
    /// CSS selector.
    Css(Template),
    /// `XPath` expression.
    Xpath(Template),
    /// The first of these locators that matches. A match of any but the first is locator drift.
    AnyOf(Vec<Locator>),
    /// The first of these locators that matches, without preference.
    OneOf(Vec<Locator>),
}

/// Expectation on a page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageExpectation {
    /// Span of the expectation in the file.
    pub span: Span,
    /// Condition that must hold.
    pub what: PageFact,
}

/// Condition of an `expect` step on a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageFact {
    /// URL of the page.
    Url(Matcher),
    /// Title of the page.
    Title(Matcher),
    /// The element exists and is visible.
    Visible(Locator),
    /// No visible element matches.
    Hidden(Locator),
    /// Properties of an element.
    Element {
        /// Element to inspect.
        target: Locator,
        /// Conditions on the element.
        facts: Vec<ElementFact>,
    },
    /// No console errors and no uncaught exceptions since the start of the run.
    Console,
    /// No failed requests since the start of the run: no response, or a status of 400 or higher.
    Requests {
        /// Requests that may fail.
        except: Vec<SentRequest>,
    },
    /// A page has sent a matching request since the start of the run, and it received a response.
    Request(SentRequest),
    /// A function body that must return `true`.
    Script(Spanned<String>),
    /// A matching file was downloaded during the run.
    Download {
        /// Condition on the file name.
        name: Option<Matcher>,
        /// Condition on the size in bytes.
        size: Option<Matcher>,
        /// Text that the file must contain, read as UTF-8.
        contains: Option<Template>,
    },
    /// Cookie of the page, by name.
    Cookie(String, Matcher),
}

/// Conditions on a request sent by a page. An omitted condition accepts any value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SentRequest {
    /// Method in upper case.
    pub method: Option<String>,
    /// Condition on the URL.
    pub url: Option<Matcher>,
    /// Condition on the status of the response.
    pub status: Option<Matcher>,
}

/// Navigation in the history of the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Travel {
    /// Goes to the previous page.
    Back,
    /// Goes to the next page.
    Forward,
    /// Reloads the page.
    Reload,
}

/// Condition on an element.
#[derive(Debug, Clone, PartialEq)]
pub enum ElementFact {
    /// Visible text with collapsed white space.
    Text(Matcher),
    /// Value of a field.
    Value(Matcher),
    /// Value of an attribute, by name.
    Attribute(String, Matcher),
    /// Number of visible elements that match the locator.
    Count(Matcher),
    /// Whether the element is checked.
    Checked(bool),
    /// Whether the element is enabled.
    Enabled(bool),
    /// Whether the element has the focus.
    Focused(bool),
}

/// Value of a page to save.
#[derive(Debug, Clone, PartialEq)]
pub struct PageSave {
    /// Name of the saved value.
    pub name: Spanned<String>,
    /// Source of the value.
    pub source: PageSource,
    /// Condition on the value, or the part of it to save; `matches` saves the first group of its expression.
    pub matcher: Option<Matcher>,
    /// Whether the value is masked from then on.
    pub secret: bool,
}

/// Source of a value that is saved from a page.
#[derive(Debug, Clone, PartialEq)]
pub enum PageSource {
    /// Text of an element.
    Text(Locator),
    /// Value of a field.
    Value(Locator),
    /// Attribute of an element.
    Attribute(Locator, String),
    /// URL of the page.
    Url,
    /// Cookie, by name.
    Cookie(String),
    /// Return value of a function body in the page.
    Script(Spanned<String>),
}
