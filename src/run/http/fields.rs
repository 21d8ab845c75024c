//! Texts of a request with resolved names.

use crate::diagnostic::Spanned;
use crate::outcome::Failure;
use crate::scenario::Template;
use crate::values::Values;

pub(super) fn fill(template: &Spanned<Template>, values: &Values) -> Result<String, Failure> {
    values.fill(template).map_err(|failure| failure.at(template.span))
}

/// Resolves the names in a password or token and masks it from then on, whether or not it was declared as a secret.
pub(super) fn hidden(template: &Spanned<Template>, values: &Values) -> Result<String, Failure> {
    let text = fill(template, values)?;
    // A value too short to be masked was not declared as a secret.
    values.masker().add(&text);
    Ok(text)
}

/// Resolves the names in a list of names and values.
pub(super) fn pairs(list: &[(String, Spanned<Template>)], values: &Values) -> Result<Vec<(String, String)>, Failure> {
    list.iter().map(|(name, value)| Ok((name.clone(), fill(value, values)?))).collect()
}
