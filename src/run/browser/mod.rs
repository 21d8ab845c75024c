//! Page steps over WebDriver.
