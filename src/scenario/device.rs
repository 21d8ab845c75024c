//! Devices that a browser can emulate, with the properties visible to a page: the values published by the
//! manufacturers, as a page reads them from `screen` and `devicePixelRatio`.

use super::model::Viewport;

/// Device to emulate.
#[derive(Debug, PartialEq)]
pub struct Device {
    /// Name of the device.
    pub name: &'static str,
    /// Size of the page.
    pub viewport: Viewport,
    /// Number of device pixels per CSS pixel.
    pub pixel_ratio: f64,
    /// Whether the device has a touch screen and uses mobile page layouts.
    pub mobile: bool,
    /// User agent of the browser.
    pub user_agent: &'static str,
}

const ANDROID: &str =
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36";
const ANDROID_TABLET: &str =
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36";
const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
const IPAD: &str = "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";

const fn device(
    name: &'static str,
    width: u32,
    height: u32,
    pixel_ratio: f64,
    mobile: bool,
    user_agent: &'static str,
) -> Device {
    Device { name, viewport: Viewport { width, height }, pixel_ratio, mobile, user_agent }
}

/// All supported devices.
pub const DEVICES: &[Device] = &[
    device("iPhone SE", 375, 667, 2.0, true, IPHONE),
    device("iPhone 15", 393, 852, 3.0, true, IPHONE),
    device("iPhone 15 Pro Max", 430, 932, 3.0, true, IPHONE),
    device("Pixel 8", 412, 915, 2.625, true, ANDROID),
    device("Galaxy S24", 360, 780, 3.0, true, ANDROID),
    device("iPad", 820, 1180, 2.0, true, IPAD),
    device("iPad Pro 11", 834, 1194, 2.0, true, IPAD),
    device("Galaxy Tab S9", 800, 1280, 2.0, true, ANDROID_TABLET),
];

impl Device {
    /// Returns the device with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        DEVICES.iter().find(|device| device.name.eq_ignore_ascii_case(name))
    }
}
