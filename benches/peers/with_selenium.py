"""The flow with Selenium for Python: a session of its own each time, as its documentation does it.

usage: with_selenium.py URL USER PASSWORD CHROMIUM CHROMEDRIVER [ARGUMENT...]
"""

import sys

from peer import serve
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as conditions
from selenium.webdriver.support.ui import WebDriverWait

url, user, password, chromium, chromedriver, *arguments = sys.argv[1:]


def flow():
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [*arguments, "--headless", "--window-size=1280,800"]:
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=chromedriver))
    try:
        wait = WebDriverWait(driver, 10)
        driver.get(url + "/login")
        for name, text in [("email", user), ("password", password)]:
            field = wait.until(conditions.element_to_be_clickable((By.NAME, name)))
            field.clear()
            field.send_keys(text)
        wait.until(conditions.element_to_be_clickable((By.XPATH, "//button[.='Sign in']"))).click()
        wait.until(conditions.visibility_of_element_located((By.XPATH, "//h1[.='My account']")))
        yield
    finally:
        driver.quit()


serve(flow)
